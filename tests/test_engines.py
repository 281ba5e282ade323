"""Engines are checked without importing Keras or TensorFlow."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from transferclf.engines import engine as engines
from transferclf.engines.engine import PRECISIONS, has_bfloat16
from transferclf.engines.registry import check_engine, engine_for, engine_names, engines_for
from transferclf.exceptions import InvalidParameterError

ENGINES = engine_names("keras")
OPTIONAL = ["onnxruntime", "openvino"]
# "auto" for Keras on TensorFlow; OpenVINO is a dependency of this package.
FASTEST = "openvino"


def resolved_engine(name="auto"):
    return engine_for(name).name


@pytest.fixture
def on_backend(monkeypatch):
    def pretend(name):
        monkeypatch.setattr("transferclf.engines.engine.keras_backend", lambda: name)

    pretend("tensorflow")
    return pretend


@pytest.fixture
def cpu_facts(monkeypatch, tmp_path):
    def pretend(text):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(engines, "_CPU_FACTS", path)

    return pretend


@pytest.fixture
def all_installed(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: name)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_engines_run_in_float32(engine, on_backend, all_installed):
    check_engine(engine)
    check_engine(engine, "float32")


def test_torch_runs_no_keras_model(on_backend, all_installed):
    with pytest.raises(InvalidParameterError, match="'torch' cannot run .* is a Keras model"):
        check_engine("torch")


@pytest.mark.parametrize("engine", ["auto", "tensorflow", "openvino"])
def test_engines_that_run_in_bfloat16(engine, on_backend, all_installed, cpu_facts):
    cpu_facts("flags : fpu avx512_bf16 sse")
    check_engine(engine, "bfloat16")


@pytest.mark.parametrize("engine", ["onnxruntime", "keras"])
def test_other_engines_refuse_bfloat16(engine, on_backend, all_installed, cpu_facts):
    cpu_facts("flags : fpu avx512_bf16 sse")
    with pytest.raises(InvalidParameterError, match="take engine='tensorflow' or 'openvino'"):
        check_engine(engine, "bfloat16")


@pytest.mark.parametrize("engine", ["pytorch", "Auto", "", None, 3, ["auto"]])
def test_an_unknown_engine_is_refused(engine):
    with pytest.raises(InvalidParameterError, match="engine must be one of .*'openvino'.* Got"):
        check_engine(engine)


@pytest.mark.parametrize("precision", ["float16", "BFLOAT16", None, 16])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(InvalidParameterError, match="precision must be one of .*'bfloat16'.* Got"):
        check_engine("auto", precision)


@pytest.mark.parametrize("engine", OPTIONAL)
def test_a_missing_package_is_an_error(engine, on_backend, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(
        InvalidParameterError, match=rf"which cannot be imported.*pip install {engine}"
    ):
        check_engine(engine)


def test_a_missing_converter_is_an_error(on_backend, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "tf2onnx" else object())
    with pytest.raises(InvalidParameterError, match=r"'onnxruntime' needs tf2onnx, which"):
        check_engine("onnxruntime")


@pytest.mark.parametrize("engine", ["tensorflow", *OPTIONAL])
def test_some_engines_need_tensorflow(engine, on_backend, all_installed):
    on_backend("jax")
    with pytest.raises(InvalidParameterError, match=f"{engine!r} needs Keras on TensorFlow.*jax"):
        check_engine(engine)


def test_auto_depends_on_the_backend(on_backend, all_installed):
    assert resolved_engine() == "openvino"
    on_backend("jax")
    check_engine("auto")
    assert resolved_engine() == "keras"
    assert [resolved_engine(engine) for engine in ENGINES[1:]] == list(ENGINES[1:])


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"openvino", "onnxruntime", "tf2onnx"}, ["openvino", "tensorflow", "onnxruntime"]),
        ({"openvino"}, ["openvino", "tensorflow"]),
        ({"onnxruntime", "tf2onnx"}, ["tensorflow", "onnxruntime"]),
        ({"onnxruntime"}, ["tensorflow"]),  # its converter is missing
        (set(), ["tensorflow"]),
    ],
)
def test_auto_is_the_fastest_engine_that_is_installed(on_backend, monkeypatch, installed, expected):
    monkeypatch.setattr(engines, "find_spec", lambda name: name in installed or None)
    assert [engine.name for engine in engines_for("auto")] == [*expected, "keras"]
    check_engine("auto")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((32, 32, 3), "tensorflow"),
        ((127, 128, 3), "tensorflow"),
        ((128, 128, 3), "openvino"),
        ((1000,), "tensorflow"),
        ((None, None, 3), "openvino"),
        (None, "openvino"),
    ],
)
def test_auto_of_small_networks_compiles_fast(on_backend, all_installed, shape, expected):
    assert engine_for("auto", shape=shape).name == expected


def test_auto_of_networks_that_are_no_keras_models(on_backend, all_installed):
    """Check that Keras' backend decides about Keras models only."""
    on_backend("jax")
    assert engine_for("auto", "function").name == "numpy"


@pytest.fixture
def gpu_of(monkeypatch):
    """Pretend that these libraries see a GPU, on a machine that has its driver or not."""

    def pretend(*libraries, driver="/"):
        def listed(library):
            return lambda *_: [library] if library in libraries else []

        modules = {
            "tensorflow": SimpleNamespace(
                config=SimpleNamespace(list_physical_devices=listed("tensorflow"))
            ),
            "torch": SimpleNamespace(cuda=SimpleNamespace(is_available=listed("torch"))),
            "jax": SimpleNamespace(default_backend=lambda: "gpu" if "jax" in libraries else "cpu"),
        }
        monkeypatch.setattr(engines, "import_module", modules.__getitem__)
        monkeypatch.setattr(engines, "_GPU_DRIVERS", (Path(driver),))
        monkeypatch.setattr(sys, "platform", "linux")

    return pretend


def test_auto_computes_on_a_gpu_where_there_is_one(on_backend, all_installed, gpu_of):
    gpu_of("tensorflow")
    assert [engine.name for engine in engines_for("auto")][:2] == ["tensorflow", "keras"]
    gpu_of()
    assert resolved_engine() == "openvino"


@pytest.mark.parametrize("library", ["tensorflow", "torch", "jax"])
def test_a_gpu_is_found_by_its_library(gpu_of, library):
    gpu_of(library)
    found = [each for each in ("tensorflow", "torch", "jax") if engines.sees_gpu(each)]
    assert found == [library]


def test_no_library_is_imported_without_the_driver_of_a_gpu(gpu_of, monkeypatch):
    gpu_of("tensorflow", "torch", driver="/no such driver")
    monkeypatch.setattr(engines, "import_module", None)  # a call would raise an error
    assert not engines.sees_gpu("tensorflow")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not engines.sees_gpu("torch")


def test_a_library_that_cannot_be_imported_sees_no_gpu(gpu_of, monkeypatch):
    gpu_of()
    monkeypatch.setattr(engines, "import_module", importlib.import_module)
    assert not engines.sees_gpu("no_such_library")


# --- bfloat16


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ("flags : fpu avx512_bf16 sse", True),
        ("flags : fpu amx_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu avx512f avx2", False),
        ("", False),
    ],
)
def test_flags_of_the_cpu_tell_bfloat16(facts, expected, cpu_facts, on_backend):
    cpu_facts(facts)
    assert has_bfloat16() == expected
    if not expected:
        with pytest.raises(InvalidParameterError, match="AVX512-BF16 or AMX.*'float32'"):
            check_engine("auto", "bfloat16")


def test_a_gpu_has_bfloat16(cpu_facts, on_backend, all_installed, gpu_of):
    cpu_facts("flags : fpu avx2")
    gpu_of("tensorflow")
    assert has_bfloat16()
    check_engine("auto", "bfloat16")
    check_engine("tensorflow", "bfloat16")
    assert engine_for("auto", precision="bfloat16").name == "tensorflow"
    with pytest.raises(InvalidParameterError, match="needs a CPU with .* or a GPU"):
        check_engine("openvino", "bfloat16")  # it would run on the CPU
    gpu_of()
    assert not has_bfloat16()


def test_auto_in_bfloat16_is_the_fastest_engine_that_has_it(on_backend, all_installed, cpu_facts):
    cpu_facts("flags : fpu amx_bf16")
    named = [engine.name for engine in engines_for("auto", precision="bfloat16")]
    assert named == ["openvino", "tensorflow"]


def test_bfloat16_is_assumed_if_the_system_has_no_cpu_facts(monkeypatch, tmp_path, on_backend):
    monkeypatch.setattr(engines, "_CPU_FACTS", tmp_path / "missing")
    assert has_bfloat16()
    check_engine("tensorflow", "bfloat16")


# --- without importing anything heavy

RESOLVING = """
import sys
from transferclf.engines.registry import check_engine, engine_for
check_engine("auto")
heavy = {"keras", "tensorflow", "onnxruntime", "openvino", "tf2onnx", "sklearn"} & set(sys.modules)
print(engine_for("auto").name, sorted(heavy))
"""


def resolved_in_a_new_process(**environment):
    """Return the output of a child that does not inherit the tests' settings of Keras."""
    import os

    inherited = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")}
    done = subprocess.run(
        [sys.executable, "-c", RESOLVING],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("backend", "config", "expected"),
    [
        ("jax", '{"backend": "tensorflow"}', "keras"),
        ("tensorflow", '{"backend": "jax"}', FASTEST),
        (None, '{"backend": "jax"}', "keras"),
        ("", '{"backend": "jax"}', "keras"),
        (None, "{}", FASTEST),
        (None, "not json", FASTEST),
        (None, None, FASTEST),
    ],
)
def test_backend_is_known_before_keras_is_imported(tmp_path, backend, config, expected):
    environment = {"KERAS_HOME": str(tmp_path)}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    if config is not None:
        Path(tmp_path, "keras.json").write_text(config)
    assert resolved_in_a_new_process(**environment) == f"{expected} []"


def test_backend_of_an_imported_keras_is_used():
    import keras

    assert engines.keras_backend() == keras.backend.backend()


@pytest.mark.parametrize("engine", OPTIONAL)
def test_installed_packages_are_found(engine):
    if not engine_for(engine).missing():
        check_engine(engine)
    else:
        with pytest.raises(InvalidParameterError):
            check_engine(engine)


def test_names_of_engines_and_precisions():
    assert engine_names() == ("auto", "tensorflow", "onnxruntime", "openvino", "torch", "keras")
    assert ENGINES == ("auto", "tensorflow", "onnxruntime", "openvino", "keras")
    assert engine_names("onnx") == ("auto", "onnxruntime", "openvino")
    assert PRECISIONS == ("float32", "bfloat16")
