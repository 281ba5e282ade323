"""One test for each private name of Keras and TensorFlow; it shows the use of the name."""

import ast
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import transferclf
from transferclf.engines.backend import compiled, prevent_leak, release_kernels
from transferclf.graphs import _private

ROOT = Path(transferclf.__file__).parent
PRIVATE = ROOT / "graphs" / "_private.py"
# Private names that the room of images uses, of Pillow, the standard library, and fsspec, which
# documents the names of its coroutines.
OF_OTHERS = {"_cat_file", "_decoder", "_exif", "_replace"}

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="private API of TensorFlow"
)


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def names_read(tree):
    """Return the private attributes that a module reads or sets, and those that it defines."""
    read, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if of_self else read).add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and is_private(node.name):
            own.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value):
                read.add(name.value)
    return read, own


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_internal(name):
    """Whether a module or a name imported from it is internal to Keras or TensorFlow."""
    first, _, rest = name.partition(".")
    parts = rest.split(".")
    if first == "keras":
        return parts[0] == "src" or any(map(is_private, parts))
    # `tensorflow.lite` is no public module: the public names are attributes, `tf.lite.Interpreter`.
    internal = ("python", "core", "compiler", "lite", "_api", "__internal__")
    return first == "tensorflow" and parts[0] in internal


@pytest.mark.newest
def test_private_api_is_used_in_one_file_only():
    trees = {path: ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
    found = {path: names_read(tree) for path, tree in trees.items()}
    own = set().union(*(defined for path, (_, defined) in found.items() if path != PRIVATE))
    foreign = {
        path.name: read - own - OF_OTHERS for path, (read, _) in found.items() if path != PRIVATE
    }
    assert {path: names for path, names in foreign.items() if names} == {}
    internal = {
        path.name: names
        for path, tree in trees.items()
        if path != PRIVATE and (names := list(filter(is_internal, imports_of(tree))))
    }
    assert internal == {}
    text = {path.name for path in trees if "sys.modules" in path.read_text()
            and "tensorflow.python.eager" in path.read_text()}  # fmt: skip
    assert text == {PRIVATE.name}


def test_each_private_name_has_a_test():
    used, _ = names_read(ast.parse(PRIVATE.read_text()))
    assert used == {
        "_all_reduce_sum_gradients",
        "_auto_config",
        "_context",
        "_inbound_nodes",
        "_initialized",
        "_keras_history",
        "_nodes_by_depth",
    }
    text = Path(__file__).read_text()
    functions = [
        node.name for node in ast.parse(PRIVATE.read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]  # fmt: skip
    assert [name for name in functions if f"_private.{name}" not in text] == []


@pytest.fixture(scope="module")
def model():
    x = inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    x = shared(shared(x))
    return keras.Model(inputs, layers.Add(name="sum")([x, inputs]))


def test_nodes_by_depth_returns_the_calls_in_order(model):
    depths = _private.nodes_by_depth(model)
    calls = [node.operation.name for depth in sorted(depths) for node in depths[depth]][:3]
    assert calls == ["sum", "shared", "shared"], (
        "Model._nodes_by_depth has changed: no graph can be walked, so that nothing is cut, "
        "folded, copied or tapped"
    )


def test_a_node_has_arguments_and_outputs(model):
    """Check the public but undocumented attributes of nodes that `graphs/walking.py` reads."""
    last = _private.nodes_by_depth(model)[0][0]
    numbers = {id(tensor): number for number, tensor in enumerate(last.input_tensors)}
    args, kwargs = last.arguments.fill_in(numbers)
    problem = "keras.src.ops.node.Node has changed: no graph can be replayed"
    assert (list(args), kwargs) == ([[0, 1]], {}), problem
    assert last.outputs[0] is model.outputs[0], problem
    assert not last.is_input, problem
    assert len(last.arguments.args) == 1, problem
    assert last.arguments.kwargs == {}, problem


def test_a_tensor_leads_to_its_operation_and_the_inputs_of_the_call(model):
    shared = model.get_layer("shared")
    operation, number = _private.maker_of(model.get_layer("sum").input[0])
    problem = (
        "KerasTensor._keras_history or Operation._inbound_nodes has changed: heads of layers that "
        "share operations, and copies of models, cannot be made"
    )
    assert (operation, number) == (shared, 1), problem
    before = _private.inputs_of_call(operation, number)
    assert _private.maker_of(before[0]) == (shared, 0), problem
    assert _private.inputs_of_call(shared, 0)[0] is model.inputs[0], problem


class Scaled(keras.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_constructor_arguments_are_recorded():
    assert _private.constructor_arguments(Scaled(3, name="scaled"))["factor"] == 3, (
        "Layer._auto_config has changed: layers of the user's own whose get_config lacks arguments "
        "cannot be copied, as model_ and trainable_layers need"
    )
    assert _private.constructor_arguments(Scaled(object())) is None


def test_keras_state_is_exchanged():
    keras.layers.Dense(1)
    before = _private.exchange_keras_state(_private.fresh_keras_state())
    try:
        name = keras.layers.Dense(1).name
        keras.config.set_dtype_policy("float16")
    finally:
        inside = _private.exchange_keras_state(before)
    problem = (
        "keras.src.backend.common.global_state has changed: names of layers, and so names of "
        "features and digests, depend on what the process did before, and building a network "
        "changes the caller's Keras"
    )
    assert name == "dense", problem
    assert (inside.names["dense"], inside.policy.name) == (1, "float16"), problem
    assert keras.config.dtype_policy().name == "float32", problem
    assert _private.exchange_keras_state(before).names is before.names, problem


def test_seeds_are_exchanged():
    class Sevens:
        def randint(self, a, b):
            return 7

    before = _private.exchange_seeds(Sevens())
    try:
        seed = int(keras.ops.convert_to_numpy(keras.random.SeedGenerator().state)[0])
    finally:
        inside = _private.exchange_seeds(before)
    problem = (
        "keras.src.random.seed_generator has changed: random weights depend on what other threads "
        "draw, and features of other weights are stored under the same key"
    )
    assert seed == 7, problem
    assert isinstance(inside, Sevens), problem


STARTED = """
import sys
sys.path.insert(0, {path!r})
from transferclf.graphs import _private
states = [_private.is_tensorflow_running()]
import tensorflow as tf
states.append(_private.is_tensorflow_running())
tf.constant(1.0)
print(states + [_private.is_tensorflow_running()])
"""


@on_tensorflow
@pytest.mark.slow
def test_running_tensorflow_is_recognised():
    done = subprocess.run(
        [sys.executable, "-c", STARTED.format(path=str(ROOT.parent))],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[False, False, True]", (
        "tensorflow.python.eager.context._context or its _initialized has changed: a forked "
        "process hangs in the place of an error, or cannot run a network that it could"
    )


def graph_of_step(is_changed):
    """Return a weak reference to the graph of a training step without other references."""
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = keras.optimizers.Adam()
    optimizer.build([variable])
    if is_changed:
        prevent_leak(optimizer)

    def step(gradient):
        optimizer.apply([gradient], [variable])
        return variable.value

    graphs = []

    def traced(gradient):
        import tensorflow as tf

        graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return step(gradient)

    compiled(traced, keras.KerasTensor((3,), "float32"))(np.ones(3, "float32"))
    np.testing.assert_allclose(variable.numpy(), np.full(3, 0.999), atol=1e-6)
    return graphs[0]


@on_tensorflow
def test_a_compiled_training_step_is_freed():
    """Check `_private.take_gradients_as_they_are` and the leak that it prevents."""
    with_leak, without = graph_of_step(False), graph_of_step(True)
    gc.collect()
    assert without() is None, (
        "Optimizer._all_reduce_sum_gradients has changed: a few megabytes stay in memory for each "
        "compiled training step"
    )
    assert with_leak() is not None, "TensorFlow no longer leaks: remove prevent_leak"


@on_tensorflow
def test_missing_gradients_are_omitted():
    optimizer = keras.optimizers.SGD()
    _private.take_gradients_as_they_are(optimizer)
    pairs = optimizer._all_reduce_sum_gradients([(1.0, "kernel"), (None, "bias")])
    assert pairs == [(1.0, "kernel")]


@on_tensorflow
def test_kernels_can_be_released():
    """Check `_private.forget_kernels`: TensorFlow has the method, and computes after its call."""
    from tensorflow.python.eager import context

    variable = keras.Variable(np.ones(7, "float32"))
    variable.assign(variable * 2)
    release_kernels()
    problem = (
        "Context.clear_kernel_cache has changed: tens of kilobytes stay in memory for each shape "
        "of a network that was ever trained"
    )
    assert callable(getattr(context.context(), "clear_kernel_cache", None)), problem
    assert (variable * 2).numpy().tolist() == [4.0] * 7, problem


@on_tensorflow
def test_files_of_litert_can_be_read_and_written():
    """Check `_private.litert_files`: a file is the same after it was read and written."""
    schema, files = _private.litert_files()
    model, graph, tensor, code = (
        schema.ModelT(), schema.SubGraphT(), schema.TensorT(), schema.OperatorCodeT()
    )  # fmt: skip
    tensor.name, tensor.type, tensor.shape = b"pixels", schema.TensorType.FLOAT32, [2]
    code.builtinCode = schema.BuiltinOperator.CONV_2D
    model.buffers, model.operatorCodes = [schema.BufferT()], [code]
    graph.tensors, model.subgraphs = [tensor], [graph]
    content = bytes(files.convert_object_to_bytearray(model))
    read = files.convert_bytearray_to_object(content)
    problem = "the files of LiteRT have changed: exports with quantize= cannot be written"
    assert read.operatorCodes[0].builtinCode == schema.BuiltinOperator.CONV_2D, problem
    assert read.subgraphs[0].tensors[0].name == b"pixels", problem
    assert bytes(files.convert_object_to_bytearray(read)) == content, problem
