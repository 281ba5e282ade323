"""The compiled network computes the function of the model, for any batch."""

import gc
import importlib.util
import logging
import re
import subprocess
import sys
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from transferclf.engines import registry as engine_registry
from transferclf.engines.engine import Engine, has_bfloat16
from transferclf.engines.forward import BATCH_SIZE, FEW, Forward, compile_forward
from transferclf.engines.registry import engine_for, engine_names
from transferclf.exceptions import InvalidParameterError, NetworkError, TransferclfWarning

SIDE = 16
ENGINES = engine_names("keras")


def network(output="pooled"):
    """Return a small network with a residual, batch norms, dropout and a strided convolution."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2)(x)))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Dropout(0.5)(layers.Add()([x, y]))
    if output == "pooled":
        x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(rng.uniform(0.2, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (70, SIDE, SIDE, 3)).astype("uint8")


def can_run(engine, precision="float32"):
    packages = {"onnxruntime": ["onnxruntime", "tf2onnx"], "openvino": ["openvino"]}
    installed = all(importlib.util.find_spec(name) for name in packages.get(engine, []))
    return installed and (precision == "float32" or has_bfloat16())


def compiled(model, engine, precision="float32"):
    """Return the compiled model, or skip the test if the engine or CPU is not available."""
    if not can_run(engine, precision):
        pytest.skip(f"no {engine} in {precision} here")
    return compile_forward(model, engine, precision)


WAYS = [(engine, "float32") for engine in ENGINES]
WAYS += [(engine, "bfloat16") for engine in ("tensorflow", "openvino")]


@pytest.fixture(scope="module", params=ENGINES)
def forward(request, model):
    return compiled(model, request.param)


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def any_forward(request, model):
    return compiled(model, *request.param)


def expected(model, images):
    return np.asarray(model(images.astype("float32"), training=False))


def test_engine_agrees_with_the_model(forward, model, images):
    result = forward(images)
    assert result.dtype == np.float32
    assert result.shape == (70, 8)
    assert np.ptp(result) > 0
    np.testing.assert_allclose(result, expected(model, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [FEW + 1, BATCH_SIZE, BATCH_SIZE + 1])
def test_rows_after_a_row_change_no_bit_of_it(forward, images, count):
    np.testing.assert_array_equal(forward(images[:count]), forward(images)[:count])


@pytest.mark.parametrize("count", [1, 2, FEW])
def test_few_rows_agree_with_many(forward, images, count):
    assert_rows_agree(forward(images[:count]), forward(images)[:count])


def test_a_row_agrees_with_itself_at_another_place(forward, images):
    order = np.random.default_rng(1).permutation(len(images))
    assert_rows_agree(forward(images[order]), forward(images)[order])


@pytest.mark.parametrize("count", range(0, 70, 3))
def test_batches_only_ever_have_two_sizes(images, count):
    """Check the sizes: kernels may sum in another order for other sizes, on some machines only."""
    sizes = []

    def function(batch):
        sizes.append(len(batch))
        return batch.sum(axis=(1, 2, 3), keepdims=True)

    result = Forward(function)(images[:count])
    assert set(sizes) == {BATCH_SIZE if count > FEW else 1}
    assert sum(sizes) < count + BATCH_SIZE
    np.testing.assert_array_equal(result, function(images[:count].astype("float32")))


def test_maps_keep_their_shape(images):
    model = network("map")
    result = compile_forward(model)(images[:5])
    assert result.shape == (5, 7, 7, 8)
    np.testing.assert_allclose(result, expected(model, images[:5]), rtol=1e-5, atol=1e-5)


def test_no_images_give_no_rows(forward):
    result = forward(np.empty((0, SIDE, SIDE, 3), "uint8"))
    assert result.shape == (0, 8)
    assert result.dtype == np.float32


def test_images_seen_counts_images_and_no_padding(model, images):
    forward = compile_forward(model)
    assert forward.images_seen == 0
    for count in (1, 33, 0, 5):
        forward(images[:count])
    assert forward.images_seen == 39


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_pixels_of_any_type_are_accepted(forward, images, dtype):
    np.testing.assert_array_equal(forward(images[:5].astype(dtype)), forward(images[:5]))


def test_read_only_input_is_not_changed(forward, images):
    kept = images[:40].astype("float32")
    kept.setflags(write=False)
    forward(kept)
    np.testing.assert_array_equal(kept, images[:40])


def test_input_need_not_be_contiguous(forward, images):
    np.testing.assert_array_equal(forward(images[::-2]), forward(images[::-2].copy()))


def test_later_calls_do_not_change_a_result(forward, images):
    first = forward(images[:5])
    kept = first.copy()
    forward(images[5:10])
    np.testing.assert_array_equal(first, kept)


def test_the_frozen_network_keeps_its_weights(images):
    model = network()
    forward = compile_forward(model, "tensorflow")
    before = forward(images[:2])
    for variable in model.weights:
        variable.assign(0 * variable)
    np.testing.assert_array_equal(forward(images[:2]), before)


@pytest.mark.parametrize("engine", ["pytorch", "Keras", None])
def test_unknown_engine(model, engine):
    with pytest.raises(InvalidParameterError, match=f"engine must be one of .* Got {engine!r}"):
        compile_forward(model, engine)


def test_an_engine_of_another_keras_backend_is_refused(model, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InvalidParameterError, match="it runs on jax"):
        compile_forward(model, "tensorflow")
    # tests/test_backends.py runs it.
    assert engine_for("auto").name == "keras"


# --- engines and precisions


def cosines(a, b):
    a, b = a.astype("float64"), b.astype("float64")
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_bfloat16_is_near_float32_and_differs(model, images, engine):
    low = compiled(model, engine, "bfloat16")(images)
    full = expected(model, images)
    assert low.dtype == np.float32
    assert np.abs(low - full).max() > 1e-5
    assert cosines(low, full).min() > 0.999


@settings(deadline=None, max_examples=20)
@given(data=st.data(), strange=st.sampled_from([0.0, -1e30, np.inf, np.nan]))
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_neighbours_change_no_bit_of_a_row(any_forward, images, data, strange):
    """Rows at the same places, with other images or numbers that no image has around them."""
    size = data.draw(st.integers(FEW + 1, 2 * BATCH_SIZE))
    rows = data.draw(st.lists(st.integers(0, 69), min_size=size, max_size=size))
    is_kept = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    batch = images[rows].astype("float32")
    other = batch.copy()
    other[~is_kept] = strange
    np.testing.assert_array_equal(any_forward(other)[is_kept], any_forward(batch)[is_kept])


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_row_agrees_with_itself_in_any_company(forward, images, data):
    size = data.draw(st.integers(FEW + 1, 2 * BATCH_SIZE))
    rows = data.draw(st.lists(st.integers(0, 69), min_size=size, max_size=size))
    assert_rows_agree(forward(images[rows]), forward(images)[rows])


@settings(deadline=None, max_examples=10)
@given(rows=st.lists(st.integers(0, 69), min_size=1, max_size=FEW))
def test_few_rows_do_not_depend_on_each_other(any_forward, images, rows):
    alone = [any_forward(images[[row]]) for row in rows]
    np.testing.assert_array_equal(any_forward(images[rows]), np.concatenate(alone))


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_flat_rows_are_accepted(engine, precision):
    inputs = keras.Input((10,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    rows = np.random.default_rng(0).normal(size=(40, 10)).astype("float32")
    result = compiled(model, engine, precision)(rows)
    tolerance = 1e-5 if precision == "float32" else 0.05
    np.testing.assert_allclose(result, expected(model, rows), atol=tolerance)


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_has_its_name(model, engine):
    forward = compiled(model, engine)
    assert forward.engine == ("tensorflow" if engine == "auto" else engine)  # a small network


def test_auto_of_a_large_network_has_its_name():
    inputs = keras.Input((128, 128, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(inputs))
    assert compile_forward(model).engine == "openvino"


@pytest.mark.parametrize(("engine", "precision"), WAYS)
@pytest.mark.parametrize("activation", ["relu6", "silu", "hard_silu", "gelu"])
def test_activations_that_runtimes_define_differently(engine, precision, activation, images):
    """Check one output for silu too, whose custom gradient in Keras leaves extra tensors."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(keras.ops.flip(inputs, axis=-1))
    x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])(x)
    x = layers.Activation(activation)(layers.Conv2D(8, 3, padding="same", strides=2)(x))
    x = layers.SpatialDropout2D(0.5)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = layers.MaxPooling2D(2)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    result, full = compiled(model, engine, precision)(images), expected(model, images)
    if precision == "float32":
        np.testing.assert_allclose(result, full, rtol=1e-5, atol=1e-5 * np.abs(full).max())
    else:
        assert cosines(result, full).min() > 0.999


def network_with_cholesky(*shape):
    inputs = keras.Input(shape or (3, 3))
    return keras.Model(inputs, keras.ops.cholesky(keras.ops.add(inputs, 0.0)))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_operation_unknown_to_a_runtime_is_an_error(engine, caplog, capfd):
    with pytest.raises(NetworkError, match=rf"engine='{engine}'(.|\n)*Cholesky(.|\n)*'auto'"):
        compiled(network_with_cholesky(), engine)
    assert not caplog.records
    assert capfd.readouterr().out == ""


def test_auto_runs_operations_unknown_to_runtimes():
    """Check the next engine, and one warning that names the network and the reason."""
    matrices = np.tile(np.diag(np.arange(1, 97.0) ** 2).astype("float32"), (FEW, 3, 1, 1))
    model = network_with_cholesky(3, 128, 128)
    said = f"'{model.name}' runs on engine='tensorflow', because engine='openvino' .*Cholesky"
    with pytest.warns(TransferclfWarning, match=said) as caught:
        forward = compile_forward(model)
    assert len(caught) == 1
    assert forward.engine == "tensorflow"
    np.testing.assert_allclose(forward(matrices), np.sqrt(matrices), atol=1e-5)


def test_one_warning_names_all_engines_that_cannot_run_a_network(monkeypatch):
    class Unable(Engine):
        name, rank, is_for_auto = "unable", 9, True

        def compile(self, network, precision):
            raise NetworkError(f"no {precision} here")

    engines = {"unable": Unable()} | engine_registry._ENGINES
    monkeypatch.setattr(engine_registry, "_ENGINES", engines)
    with pytest.warns(TransferclfWarning, match="'unable' cannot: no float32 here; engine='openv"):
        assert compile_forward(network_with_cholesky(3, 128, 128)).engine == "tensorflow"


def test_errors_in_bfloat16_name_an_engine_that_has_it(monkeypatch):
    monkeypatch.setattr("transferclf.engines.engine.cpu_has_bfloat16", lambda: True)
    with pytest.raises(NetworkError, match=r"Cholesky(.|\n)*Take engine='tensorflow', or prec"):
        compile_forward(network_with_cholesky(), "openvino", "bfloat16")


def test_several_inputs_or_outputs_are_refused():
    inputs = keras.Input((4,)), keras.Input((4,))
    joined = layers.Add()(inputs)
    for ends in [(list(inputs), joined), (inputs[0], [layers.ReLU()(inputs[0])] * 2)]:
        with pytest.raises(NetworkError, match="expected a model with one input and one output"):
            compile_forward(keras.Model(*ends))


def test_several_threads_may_call_one_forward(any_forward, images):
    wanted = any_forward(images)
    start, seen = threading.Barrier(4), any_forward.images_seen

    def results(count):
        start.wait()
        return [any_forward(images[:count]) for _ in range(5)]

    counts = [3, 40, 64, 70]
    with ThreadPoolExecutor(4) as pool:
        for count, several in zip(counts, pool.map(results, counts), strict=True):
            for result in several:
                assert_rows_agree(result, wanted[:count])
    assert any_forward.images_seen == seen + 5 * sum(counts)


# --- global state and memory


TENSORFLOW_LOG = re.compile(
    r"[IWE]\d{4} .* (graph_view|mlir_graph_optimization_pass)\.cc"
    r"|\t\.  Registered:|WARNING: All log messages before absl::InitializeLog"
)


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_compiling_changes_no_global_state(engine, precision, monkeypatch, tmp_path, capfd, caplog):
    """Check that files, output, loggers, Keras' settings and the model stay the same."""
    model = network()
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    config, weights = model.get_config(), model.get_weights()
    before = keras.config.floatx(), keras.config.dtype_policy().name, logging.root.handlers[:]
    compiled(model, engine, precision)(np.zeros((1, SIDE, SIDE, 3)))
    assert list(Path(tmp_path).iterdir()) == []
    printed = capfd.readouterr()
    # TF_CPP_MIN_LOG_LEVEL controls the log of TensorFlow's kernels; 2.18 logs much.
    ours = [line for line in printed.err.splitlines() if line and not TENSORFLOW_LOG.match(line)]
    assert (printed.out, ours) == ("", [])
    assert not caplog.records
    after = keras.config.floatx(), keras.config.dtype_policy().name, logging.root.handlers[:]
    assert after == before
    assert logging.getLogger("tf2onnx").level == logging.NOTSET
    assert model.get_config() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("engine", "precision"), [way for way in WAYS if way[0] != "keras"])
@pytest.mark.parametrize("change", ["assign", "assign_add"])
def test_later_weights_do_not_reach_the_compiled_network(engine, precision, change, images):
    """Check all batch sizes: an engine may compile one of them when it first comes."""
    model = network()
    forward, other = (compiled(model, engine, precision) for _ in range(2))
    few, many = forward(images[:2]), other(images[:40])
    gc.collect()
    for variable in model.weights:
        getattr(variable, change)(variable + 1)
    np.testing.assert_array_equal(forward(images[:2]), few)
    if precision == "float32":
        assert_rows_agree(forward(images[:40]), many)
        assert_rows_agree(other(images[:2]), few)


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_a_dropped_forward_is_freed(engine, precision):
    model = network()
    forward = compiled(model, engine, precision)
    forward(np.zeros((1, SIDE, SIDE, 3)))
    dropped = [weakref.ref(forward), weakref.ref(forward._function), weakref.ref(model)]
    del forward, model
    gc.collect()
    assert [reference() for reference in dropped] == [None] * 3


DROPPING = """
import gc, sys
import keras, numpy as np
from keras import layers
from transferclf.engines.forward import compile_forward

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

inputs = keras.Input((32, 32, 3))
x = layers.Dense(1024)(layers.Flatten()(inputs))  # 12 MB of weights
model = keras.Model(inputs, x)
for way in sys.argv[1:]:
    sizes = []
    for cycle in range(14):
        compile_forward(model, *way.split())(np.zeros((40, 32, 32, 3)))
        gc.collect()
        sizes.append(resident())
    # The minimum of four, because allocators take and return memory in irregular steps.
    print(way, min(sizes[-4:]) - min(sizes[:4]), sep=":")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_dropped_forwards_is_freed():
    ways = [" ".join(way) for way in WAYS[1:] if can_run(*way)]
    done = subprocess.run(
        [sys.executable, "-c", DROPPING, *ways],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    grown = dict(line.split(":") for line in done.stdout.splitlines())
    assert set(grown) == set(ways)
    # Ten networks that are not freed need 120 MB.
    assert {way: size for way, size in grown.items() if float(size) > 60} == {}
