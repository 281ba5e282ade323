"""Layers as users write them, in a module that other processes can import."""

import keras
from keras import layers


class Wide(layers.Layer):
    """Layer whose config has more entries than `__init__` accepts, as in some libraries."""

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
    """Layer whose config has other names than the arguments of `__init__`, which Keras keeps."""

    def __init__(self, factor=1.0, name=None):
        super().__init__(name=name)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"name": self.name, "scale": self.factor}


class Forgetful(layers.Layer):
    """Layer whose config lacks an argument."""

    def __init__(self, factor=1.0, **arguments):
        super().__init__(**arguments)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config()


class Hiding(layers.Layer):
    """Layer that keeps an argument under another name, and whose config lacks it."""

    def __init__(self, factor=1.0, **arguments):
        super().__init__(**arguments)
        self.hidden = factor

    def call(self, x):
        return x * self.hidden


class Needy(layers.Layer):
    """Layer that cannot be made again, because no config can hold its argument."""

    def __init__(self, helper, units=1):
        super().__init__()
        self.helper = helper

    def call(self, x):
        return self.helper(x)

    def get_config(self):
        return {"name": self.name}


class Net(keras.Model):
    """Subclassed model, which has no graph of layers."""

    def __init__(self):
        super().__init__()
        self.scale, self.conv = layers.Rescaling(1 / 255), layers.Conv2D(8, 3)

    def call(self, x):
        return self.conv(self.scale(x))


def relu(x):
    """Return something other than relu, under its name."""
    return 3 * x
