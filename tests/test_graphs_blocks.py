"""The last block of a network: by the names of its layers, or by its weights."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from transferclf.backbones.tiny import build_tiny
from transferclf.graphs.blocks import MOST_WORK, Parts
from transferclf.graphs.cutting import cut

SIDE, CHANNELS = 6, 4


def chain(names):
    """Return a network of equal convolutions in a row."""
    x = inputs = keras.Input((SIDE, SIDE, CHANNELS))
    for name in names:
        x = layers.Conv2D(CHANNELS, 1, name=name)(x)
    return keras.Model(inputs, x)


class Composite(layers.Layer):
    """Layer of four kernels, like a block of a transformer."""

    def build(self, shape):
        for number in range(4):
            self.add_weight((shape[-1], shape[-1]), name=f"kernel{number}")

    def call(self, x):
        return x + sum(keras.ops.matmul(x, kernel) for kernel in self.weights)


def numbered(text, *numbers):
    """Return a text with the numbers 1 to n in its places, for all combinations."""
    return [text.format(*each) for each in itertools.product(*(range(1, n + 1) for n in numbers))]


# The names of the layers, and the last block.
NAMED = {
    "vgg": (numbered("block{}_conv{}", 3, 2), "block3"),
    "resnet": (["conv_0", *numbered("conv{}_block{}_{}_conv", 2, 2, 2)], "conv2_block2"),
    "efficientnet": (["stem", "block6a_1", "block6a_2", "block6b_1", "block6b_2"], "block6b"),
    "mobilenet": ([*numbered("block_{}_conv{}", 11, 2)[-6:], "Conv_1"], "block_11"),
    "convnext": (numbered("tiny_stage_{}_block_{}_conv_{}", 2, 2, 2), "tiny_stage_2_block_2"),
    # The last block alone has 7 % of the weights.
    "densenet": (numbered("conv1_block{}_{}_conv", 15, 2), "conv1_block14"),
    # Several names for the same block: the shortest.
    "one block in the last stage": (numbered("block{}a_conv{}", 3, 2), "block3"),
    "no blocks": (numbered("conv{}", 3), "conv3"),
    "no numbers": (["first", "second", "third", "fourth"], "fourth"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_the_last_block_is_found_by_name(kind):
    names, block = NAMED[kind]
    assert Parts(chain(names)).last_block() == block


def test_the_last_block_of_tiny():
    parts = Parts(build_tiny((64, 64, 3), seed=0))
    assert parts.last_block() == "block4"
    assert parts.above("block4").work < 0.3


def test_a_composite_layer_is_a_block():
    x = inputs = keras.Input((SIDE, CHANNELS))
    for number in range(3):
        x = Composite(name=f"transformer_block_{number}")(x)
    assert Parts(keras.Model(inputs, x)).last_block() == "transformer_block_2"


def test_without_names_the_cut_crosses_fewest_activations():
    def mixed(x):
        """Two branches without a name for both, as in Inception."""
        return layers.Concatenate()(
            [layers.Conv2D(2, 1)(layers.Conv2D(2, 1)(x)), layers.Conv2D(2, 1)(x)]
        )

    inputs = keras.Input((SIDE, SIDE, CHANNELS))
    model = keras.Model(inputs, mixed(mixed(mixed(inputs))))
    # Two convolutions of one branch are enough weights, but read two activations.
    number = Parts(model).last_block()
    prefix, suffix = cut(model, number)
    assert len(prefix.outputs) == 1
    assert sum(isinstance(layer, layers.Conv2D) for layer in suffix.layers) == 3


def test_a_part_that_is_nearly_all_of_the_work_is_no_block():
    inputs = keras.Input((SIDE, SIDE, CHANNELS))
    x = layers.Conv2D(CHANNELS, 1, strides=3, name="patches")(inputs)
    x = layers.Conv2D(CHANNELS, 3, padding="same", name="encoder")(x)
    parts = Parts(keras.Model(inputs, x))
    assert parts.above("encoder").work > MOST_WORK
    assert parts.last_block() is None


@pytest.mark.parametrize("layer", [layers.ReLU, layers.BatchNormalization])
def test_a_network_without_kernels_has_no_block(layer):
    inputs = keras.Input((SIDE, SIDE, CHANNELS))
    parts = Parts(keras.Model(inputs, layer()(inputs)))
    assert parts.last_block() is None
    assert parts.above("all").work == 0


def test_work_is_counted_in_multiplications():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same", name="conv")(inputs)  # 16 * 3 * 3 * 3 * 5
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)  # 16 * 3 * 3 * 5
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2DTranspose(2, 2, strides=2, name="up")(x)  # 16 * 2 * 2 * 5 * 2
    x = layers.Dense(7, name="dense")(layers.GlobalAveragePooling2D(name="pool")(x))  # 2 * 7
    parts = Parts(keras.Model(inputs, x))
    work = {"dense": 14, "up": 640, "depthwise": 720, "conv": 2160}
    above = np.cumsum(list(work.values())) / sum(work.values())
    assert [parts.above(name).work for name in work] == pytest.approx(above)
    assert parts.above("all").weights == 1


def test_the_number_of_inputs_is_that_of_the_cut():
    model = build_tiny((32, 32, 3), seed=0)
    for block in ("block2", "block4", "top"):
        assert Parts(model).above(block).n_inputs == len(cut(model, block).prefix.outputs)
