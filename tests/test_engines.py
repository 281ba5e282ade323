"""Engines are checked without importing Keras or TensorFlow."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from transferclf.engines import engine as engines
from transferclf.engines.engine import PRECISIONS, has_bfloat16
from transferclf.engines.registry import check_engine, engine_for, engine_names
from transferclf.exceptions import InvalidParameterError

ENGINES = engine_names()
OPTIONAL = ["onnxruntime", "openvino"]


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


@pytest.mark.parametrize("engine", ["auto", "tensorflow", "openvino"])
def test_engines_that_run_in_bfloat16(engine, on_backend, all_installed, cpu_facts):
    cpu_facts("flags : fpu avx512_bf16 sse")
    check_engine(engine, "bfloat16")


@pytest.mark.parametrize("engine", ["onnxruntime", "keras"])
def test_other_engines_refuse_bfloat16(engine, on_backend, all_installed, cpu_facts):
    cpu_facts("flags : fpu avx512_bf16 sse")
    with pytest.raises(InvalidParameterError, match="take engine='tensorflow' or 'openvino'"):
        check_engine(engine, "bfloat16")


@pytest.mark.parametrize("engine", ["torch", "Auto", "", None, 3, ["auto"]])
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
    with pytest.raises(InvalidParameterError, match=rf"pip install transferclf\[{engine}\]"):
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


def test_auto_depends_on_the_backend(on_backend):
    assert resolved_engine() == "tensorflow"
    on_backend("jax")
    check_engine("auto")
    assert resolved_engine() == "keras"
    assert [resolved_engine(engine) for engine in ENGINES[1:]] == list(ENGINES[1:])


def test_auto_does_not_depend_on_installed_packages(on_backend, monkeypatch):
    for installed in (None, object()):
        monkeypatch.setattr(engines, "find_spec", lambda name, found=installed: found)
        assert resolved_engine("auto") == "tensorflow"


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
        ("tensorflow", '{"backend": "jax"}', "tensorflow"),
        (None, '{"backend": "jax"}', "keras"),
        ("", '{"backend": "jax"}', "keras"),
        (None, "{}", "tensorflow"),
        (None, "not json", "tensorflow"),
        (None, None, "tensorflow"),
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
    names = engine_for(engine).packages + engine_for(engine).converters
    if all(importlib.util.find_spec(name) for name in names):
        check_engine(engine)
    else:
        with pytest.raises(InvalidParameterError):
            check_engine(engine)


def test_names_of_engines_and_precisions():
    assert ENGINES == ("auto", "tensorflow", "onnxruntime", "openvino", "keras")
    assert PRECISIONS == ("float32", "bfloat16")
