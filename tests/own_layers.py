"""Layers as users write them; in a module of their own, so that other processes find them."""

import keras
from keras import layers


class Wide(layers.Layer):
    """Describes more than its `__init__` takes, as layers of some libraries do."""

    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.tokens = 2 * units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)

    def get_config(self):
        return super().get_config() | {"units": self.units, "tokens": self.tokens}


class Renamed(layers.Layer):
    """Describes itself in other words than its `__init__` takes; Keras keeps the arguments."""

    def __init__(self, factor=1.0, name=None):
        super().__init__(name=name)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"name": self.name, "scale": self.factor}


class Forgetful(layers.Layer):
    """Does not describe all that it was given."""

    def __init__(self, factor=1.0, **arguments):
        super().__init__(**arguments)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config()


class Needy(layers.Layer):
    """Cannot be made again: needs an object that no description holds."""

    def __init__(self, helper, units=1):
        super().__init__()
        self.helper = helper

    def call(self, x):
        return self.helper(x)

    def get_config(self):
        return {"name": self.name}


class Net(keras.Model):
    """A subclassed model, whose graph cannot be seen."""

    def __init__(self):
        super().__init__()
        self.scale, self.conv = layers.Rescaling(1 / 255), layers.Conv2D(8, 3)

    def call(self, x):
        return self.conv(self.scale(x))


def relu(x):
    """No relu, for all its name says."""
    return 3 * x
