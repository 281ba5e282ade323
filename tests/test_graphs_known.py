"""Layers of installed libraries are known code; a fake library is installed in a folder."""

import base64
import hashlib
import importlib
import pickle
import sys

import keras
import numpy as np
import pytest
from own_layers import Wide
from sklearn.base import clone

from transferclf import CNNFeatureExtractor
from transferclf.graphs.copying import arrived, copied, travelling
from transferclf.graphs.digests import describe, model_digest
from transferclf.graphs.known import _distribution_of, _recorded, known_code
from transferclf.graphs.opening import opened

CODE = """
import keras

def triple(x):
    return 3 * x

def make(factor):
    return lambda x: factor * x

class Narrow(keras.layers.Layer):
    # Its config lacks an argument.
    def __init__(self, units, factor=1.0, function=None, kind=None, **arguments):
        super().__init__(**arguments)
        self.units, self.factor, self.function = units, factor, function
        self.dense = keras.layers.Dense(units, name="dense")
        self.kind = None if kind is None else kind()

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        x = self.dense(x) * self.factor
        return x if self.function is None else self.function(x)

    def get_config(self):
        return super().get_config() | {"units": self.units, "more": 1}

class Broken(Narrow):
    def get_config(self):
        raise AttributeError("get_config of this layer has a mistake")

class Stack(keras.layers.Layer):
    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.blocks = [Narrow(units, name=f"block_{number}") for number in range(3)]

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x

class Net(keras.Model):
    # It has a graph, and a config of its arguments only.
    def __init__(self, units=4, doubled=False, **arguments):
        pixels = keras.Input((8, 8, 3))
        x = Narrow(units, 2.0)(pixels)
        super().__init__(pixels, x + x if doubled else x, **arguments)
        self.units = units

    def get_config(self):
        return {"name": self.name, "units": self.units}
"""


def install(folder, version="1.0", code=CODE, is_recorded=True):
    """Install a library `shelf` of one module as pip does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shelf.py").write_text(code)
    digest = base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()).decode().rstrip("=")
    facts = folder / f"shelf-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shelf\nVersion: {version}\n")
    line = f"shelf.py,sha256={digest},{len(code)}\n" if is_recorded else "shelf.pth,,\n"
    (facts / "RECORD").write_text(line)


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Return a function that installs the library and imports it."""

    def install_and_import(name="site", **options):
        install(tmp_path / name, **options)
        monkeypatch.syspath_prepend(str(tmp_path / name))
        sys.modules.pop("shelf", None)
        _distribution_of.cache_clear()
        _recorded.cache_clear()
        return importlib.import_module("shelf")

    yield install_and_import
    sys.modules.pop("shelf", None)
    _distribution_of.cache_clear()
    _recorded.cache_clear()


def network(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="pixels")
    return keras.Model(inputs, layer(inputs), name="network")


def test_classes_are_known_by_the_digest_of_their_distribution(imported):
    shelf = imported()
    code = known_code(shelf.Narrow)
    assert code[:4] == ["shelf", "Narrow", "shelf", "1.0"]
    assert known_code(shelf.triple)[1] == "triple"
    assert known_code(keras.layers.Dense)[1] == "Dense"
    for unknown in (shelf.make(2.0), Wide, network, print, lambda x: x):
        assert known_code(unknown) is None
    changed = imported("other", code=CODE + "\nVALUE = 1\n")
    assert known_code(changed.Narrow)[:4] == code[:4]
    assert known_code(changed.Narrow) != code


def test_editable_projects_and_scripts_are_unknown(imported):
    shelf = imported(is_recorded=False)
    assert known_code(shelf.Narrow) is None
    assert describe(network(shelf.Narrow(4))).has_unknown_code


def test_equal_networks_have_equal_digests_and_others_have_not(imported):
    shelf = imported()
    one = model_digest(network(shelf.Narrow(4, name="narrow")))
    assert one == model_digest(network(shelf.Narrow(4, name="narrow")))
    changed = shelf.Narrow(4, name="narrow")
    changed.factor = 2.0
    listed = shelf.Narrow(4, name="narrow")
    listed.more = [1, {"a": np.arange(3)}]
    another = shelf.Narrow(4, name="narrow")
    another.more = [1, {"a": np.arange(1, 4)}]
    others = [
        changed,
        listed,
        another,
        shelf.Narrow(4, 3.0, name="narrow"),
        shelf.Narrow(4, function=shelf.triple, name="narrow"),
        shelf.Narrow(4, function=keras.activations.relu, name="narrow"),
        shelf.Narrow(4, name="narrow", dtype="float16"),
    ]
    digests = {model_digest(network(layer)) for layer in others}
    assert len(digests | {one}) == len(others) + 1


def test_the_graph_of_a_model_counts_and_not_its_arguments_alone(imported):
    shelf = imported()
    digests = []
    for doubled in (False, True, True):
        keras.utils.clear_session()
        digests.append(describe(shelf.Net(doubled=doubled, name="net")).digest)
    assert digests[0] != digests[1] == digests[2]
    assert not describe(shelf.Net()).has_unknown_code


UNKNOWN = {
    "a function of a function": lambda shelf: shelf.Narrow(4, function=shelf.make(2.0)),
    "a lambda": lambda shelf: shelf.Narrow(4, function=lambda x: x),
    "a lambda layer": lambda shelf: shelf.Narrow(4, kind=lambda: keras.layers.Lambda(shelf.triple)),
    "an own layer": lambda shelf: shelf.Narrow(4, kind=lambda: Wide(2)),
    "an object": lambda shelf: shelf.Narrow(4, function=Callable()),
}


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_values_that_are_code_of_the_users_own_make_a_model_unknown(imported, make):
    model = network(make(imported()))
    assert describe(model).has_unknown_code
    assert model_digest(model) == model_digest(model)


def test_an_overwritten_call_makes_a_model_unknown(imported):
    layer = imported().Narrow(4)
    layer.call = lambda x: 2 * x
    assert describe(network(layer)).has_unknown_code


LAYERS = {
    "config with more and less": lambda shelf: shelf.Narrow(4, 3.0, name="layer"),
    "config with a mistake": lambda shelf: shelf.Broken(4, 3.0, name="layer"),
    "a class as argument": lambda shelf: shelf.Broken(4, 3.0, kind=keras.layers.ReLU, name="layer"),
    "layers inside": lambda shelf: shelf.Stack(3, name="layer"),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_copies_clones_and_pickles_compute_the_same_under_the_same_digest(imported, make):
    shelf = imported()
    model = network(make(shelf))
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    expected, digest = np.asarray(model(images)), model_digest(model)
    assert not describe(model).has_unknown_code
    assert model_digest(model) == digest  # use changes nothing
    travelled = arrived(pickle.loads(pickle.dumps(travelling(model))))
    for same in (copied(model), travelled):
        np.testing.assert_allclose(np.asarray(same(images)), expected, rtol=1e-6)
    assert model_digest(travelled) == digest
    extractor = CNNFeatureExtractor(model, preprocessing="none")
    assert clone(extractor).backbone is model


def test_stacks_of_blocks_are_opened(imported):
    shelf = imported()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, shelf.Stack(3, name="b")(shelf.Stack(3, name="a")(inputs)))
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    flat = opened(model)
    names = [f"{stack}_block_{number}" for stack in "ab" for number in range(3)]
    assert [layer.name for layer in flat.layers][1:] == names
    np.testing.assert_allclose(np.asarray(flat(images)), expected, rtol=1e-6)
