"""Small networks in ONNX files, with known values."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "float64": TensorProto.DOUBLE,
}
CHANNELS, CLASSES = 5, 4

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.1, (CHANNELS, 3, 2, 2)).astype(np.float32)
TOP = RNG.normal(size=(CHANNELS, CLASSES)).astype(np.float32)


def maps_of(images):
    """Maps (n, h / 2, w / 2, CHANNELS) of images (n, h, w, 3), by NumPy."""
    n, height, width, _ = images.shape
    parts = images.reshape(n, height // 2, 2, width // 2, 2, 3).astype(np.float64)
    return np.maximum(np.einsum("nhawbc,kcab->nhwk", parts, KERNEL), 0)


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def save(path, nodes, inputs, outputs, constants=(), *, opset=17, domains=(), **options):
    """Write a model; inputs and outputs are (name, element, shape)."""
    infos = [
        [helper.make_tensor_value_info(name, ELEMENTS[kind], shape) for name, kind, shape in group]
        for group in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "network", *infos, list(constants))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(it, 1) for it in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    onnx.save(model, path, **options)
    return path


def small_network(
    path,
    *,
    layout="NCHW",
    element="float32",
    batch="n",
    size=("h", "w"),
    ends=("maps",),
    before=(),
    **options,
):
    """Write a convolution of 2 x 2 pixels, which ends in some of maps, tokens, rows and scores.

    `before` are nodes from "pixels" to "started".
    """
    inner = "float32" if element == "uint8" else element
    dtype = np.dtype(inner)
    node = helper.make_node
    nodes, start = list(before), "started" if before else "pixels"
    if element == "uint8":
        nodes.append(node("Cast", [start], ["numbers"], to=ELEMENTS["float32"]))
        start = "numbers"
    if layout == "NHWC":
        nodes.append(node("Transpose", [start], ["first"], perm=[0, 3, 1, 2]))
        start = "first"
    nodes += [
        node("Conv", [start, "kernel"], ["convolved"], strides=[2, 2]),
        node("Relu", ["convolved"], ["first_maps"]),
        node("Reshape", ["first_maps", "flat"], ["parts"]),
        node("Transpose", ["parts"], ["tokens"], perm=[0, 2, 1]),
        node("GlobalAveragePool", ["first_maps"], ["mean"]),
        node("Flatten", ["mean"], ["rows"]),
        node("MatMul", ["rows", "top"], ["scores"]),
        node("Transpose", ["first_maps"], ["last_maps"], perm=[0, 2, 3, 1]),
        node("Identity", ["first_maps" if layout == "NCHW" else "last_maps"], ["maps"]),
    ]
    shapes = {
        "maps": [batch, CHANNELS, "a", "b"] if layout == "NCHW" else [batch, "a", "b", CHANNELS],
        "last_maps": [batch, "a", "b", CHANNELS],
        "tokens": [batch, "t", CHANNELS],
        "rows": [batch, CHANNELS],
        "scores": [batch, CLASSES],
    }
    constants = [
        constant("kernel", KERNEL.astype(dtype)),
        constant("top", TOP.astype(dtype)),
        constant("flat", np.array([0, CHANNELS, -1], np.int64)),
    ]
    pixels = [batch, 3, *size] if layout == "NCHW" else [batch, *size, 3]
    outputs = [(name, inner, shapes[name]) for name in ends]
    return save(path, nodes, [("pixels", element, pixels)], outputs, constants, **options)


def with_external_data(path, **options):
    """Write the network with its weights in the file "weights.bin" beside it."""
    return small_network(
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=64,
        **options,
    )
