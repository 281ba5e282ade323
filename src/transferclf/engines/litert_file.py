"""Read and change files of LiteRT: operations, ranges of activations, constants with 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferclf.engines.convolutions import Step
from transferclf.graphs._private import litert_files

VERSION_FLOAT16 = 3  # of DEQUANTIZE, the first one that reads float16


def with_float16(content: bytes, least: int) -> bytes:
    """Return a file whose constants of `least` values or more are stored with 16 bits.

    The converter's own option stores all constants so. As in its files, an operation DEQUANTIZE
    makes float32 numbers of them when the file is opened.
    """
    schema, _ = litert_files()
    model, graph = _opened(content)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = VERSION_FLOAT16
    operations, emptied = [], set()
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < 4 * least:
            continue
        buffer, half, operation = schema.BufferT(), schema.TensorT(), schema.OperatorT()
        values = np.frombuffer(bytes(data), np.float32).astype(np.float16)
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        half.name, half.shape = tensor.name + b"_float16", tensor.shape
        half.type, half.buffer = schema.TensorType.FLOAT16, len(model.buffers)
        operation.opcodeIndex = len(model.operatorCodes)
        operation.inputs, operation.outputs = [len(graph.tensors)], [index]
        model.buffers.append(buffer)
        graph.tensors.append(half)
        operations.append(operation)
        emptied.add(tensor.buffer)
        tensor.buffer = 0  # the empty one
    for number in emptied:
        model.buffers[number].data = None
    model.operatorCodes.append(code)
    graph.operators = [*operations, *graph.operators]
    return _content(model)


def named_steps(content: bytes) -> tuple[list[str], list[Step]]:
    """Return the operations of a file in order, and the name of each, that of its first result."""
    schema, _ = litert_files()
    kinds = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    model, graph = _opened(content)
    codes = [code.builtinCode for code in model.operatorCodes]
    steps = [
        Step(codes[each.opcodeIndex] in kinds, tuple(each.inputs), tuple(each.outputs))
        for each in graph.operators
    ]
    return [graph.tensors[step.results[0]].name.decode() for step in steps], steps


def ranges(content: bytes) -> dict[int, tuple[float, float]]:
    """Return the ranges of the activations in a file, by the number of the tensor."""
    _, graph = _opened(content)
    found = {}
    for number, tensor in enumerate(graph.tensors):
        known = tensor.quantization
        if known is not None and known.min is not None and len(known.min) == 1:
            found[number] = float(known.min[0]), float(known.max[0])
    return found


def with_ranges(content: bytes, new: Mapping[int, tuple[float, float]]) -> bytes:
    """Return a file with other ranges of activations."""
    model, graph = _opened(content)
    for number, (low, high) in new.items():
        known = graph.tensors[number].quantization
        known.min, known.max = np.array([low], np.float32), np.array([high], np.float32)
    return _content(model)


def _opened(content: bytes) -> tuple[Any, Any]:
    """Return the model in a file, and its only graph."""
    _, files = litert_files()
    model = files.convert_bytearray_to_object(content)
    (graph,) = model.subgraphs
    return model, graph


def _content(model: Any) -> bytes:
    """Return the file that holds a model."""
    _, files = litert_files()
    return bytes(files.convert_object_to_bytearray(model))
