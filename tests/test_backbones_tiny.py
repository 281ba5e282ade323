"""The bundled backbone: small, complete, verified, and independent of other files."""

import numpy as np
import pytest

from transferclf.backbones import tiny
from transferclf.backbones.tiny import WEIGHTS_PATH, WIDTH, build_tiny, load_tiny_weights
from transferclf.exceptions import NetworkError, WeightsError


def test_the_weights_are_small():
    assert WEIGHTS_PATH.stat().st_size <= 4_000_000
    with np.load(WEIGHTS_PATH, allow_pickle=False) as arrays:
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
        assert sum(array.size for array in arrays.values()) <= 2_000_000


def test_every_weight_of_the_network_is_in_the_file():
    model = build_tiny((32, 32, 3), seed=0)
    with np.load(WEIGHTS_PATH, allow_pickle=False) as arrays:
        stored = {name: arrays[name].astype(np.float32) for name in arrays}
    load_tiny_weights(model)
    weights = {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}
    assert weights.keys() == stored.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(values, stored[name])


@pytest.mark.parametrize("side", [32, 33, 64, 71, 96])
def test_the_network_accepts_any_size(side, rng):
    model = build_tiny()
    load_tiny_weights(model)
    maps = model.predict(rng.uniform(-1, 1, (2, side, side, 3)), verbose=0)
    assert maps.shape == (2, -(-side // 32), -(-side // 32), WIDTH)
    assert np.isfinite(maps).all()
    assert maps.max() > 0


def test_random_weights_follow_the_seed():
    first, again, other = (build_tiny((32, 32, 3), seed=seed).get_weights() for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_every_layer_belongs_to_a_block():
    names = [layer.name for layer in build_tiny().layers[1:]]
    blocks = {"stem", "block1", "block2", "block3", "block4", "top"}
    assert {name.split("_")[0] for name in names} == blocks


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    contents = bytearray(WEIGHTS_PATH.read_bytes())
    contents[1000] ^= 1
    damaged = tmp_path / "tiny_weights.npz"
    damaged.write_bytes(contents)
    monkeypatch.setattr(tiny, "WEIGHTS_PATH", damaged)
    with pytest.raises(WeightsError, match="are damaged.*Reinstall"):
        load_tiny_weights(build_tiny())
    damaged.unlink()
    with pytest.raises(WeightsError, match="are missing.*Reinstall"):
        load_tiny_weights(build_tiny())


def test_another_network_is_refused():
    import keras

    inputs = keras.Input((32, 32, 3))
    with pytest.raises(NetworkError, match="not made by build_tiny"):
        load_tiny_weights(keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)))
    with pytest.raises(NetworkError, match="3 input channels"):
        load_tiny_weights(build_tiny((32, 32, 1)))
