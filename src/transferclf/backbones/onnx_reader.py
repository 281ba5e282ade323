"""Read the facts about a network from an ONNX file, without running or building anything.

The reader knows the wire format of protobuf and the few fields that it needs. It copies names and
shapes only, never weights, and it refuses a file with more parts than a network has. The engines
read the file again when the network has to run.
"""

from __future__ import annotations

import functools
import mmap
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

from transferclf.exceptions import WeightsError
from transferclf.graphs.digests import SETTLED

# Real networks stay far below these numbers: fields of one message, fields of the whole file, and
# graphs inside graphs.
MAX_FIELDS = 2**18
MAX_FIELDS_OF_FILE = 2**22
MAX_DEPTH = 8

# fmt: off
# The names of TensorProto.DataType by number.
_ELEMENTS = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
    "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
)
# fmt: on

# The beginning of a file that only says where the real file is.
_POINTER = b"version https://git-lfs"

# The lengths of fields by their type on the wire; None is in the file.
_LENGTHS = {1: 8, 2: None, 5: 4}

Span = tuple[int, int]


@dataclass(frozen=True)
class Value:
    """An input or output: its name, the type of its numbers, and its shape.

    None stands for an axis of open length, and for an unknown shape.
    """

    name: str
    element: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        axes = self.shape if self.shape is not None else ("unknown shape",)
        return f"{self.name!r} ({', '.join('?' if axis is None else str(axis) for axis in axes)})"


@dataclass
class OnnxFile:
    """The facts about the network in an ONNX file.

    `inner` are the tensors that are made on the way to the outputs. `weights` are the names of all
    weights. `operators` are the names of
    all operators, also of those in graphs inside the graph, and `elements` the types of all
    weights. `external` are the files with weights beside the file. `is_training` says that batch
    normalisation takes its statistics from the batch.
    """

    path: Path
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    inner: dict[str, Value] = field(default_factory=dict)
    operators: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)
    elements: set[str] = field(default_factory=set)
    external: set[Path] = field(default_factory=set)
    is_training: bool = False

    @property
    def files(self) -> list[Path]:
        """The file and all files with its weights, in a fixed order."""
        return [self.path, *sorted(self.external)]


def read_onnx(path: Path) -> OnnxFile:
    """Return the facts about the network in a file; they are remembered until the file changes.

    Raises WeightsError if there is no file, if it is damaged or no ONNX file, or if a file with its
    weights is missing, too short, or outside of the folder.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is no file.")
        if abs(time.time() - max(status.st_mtime, status.st_ctime)) < SETTLED:
            return _read(path)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        return _remembered(path, stamp)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no ONNX file {path}.") from error
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"The ONNX file {path} cannot be read: {error.strerror}.") from error
    except (_DamageError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is truncated, damaged or no ONNX file: {error}.") from error


@functools.lru_cache(maxsize=16)
def _remembered(path: Path, stamp: tuple[int, ...]) -> OnnxFile:
    return _read(path)


def _read(path: Path) -> OnnxFile:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise _DamageError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(_POINTER)] == _POINTER:
                raise _DamageError("it is a pointer of Git LFS; get the file itself: git lfs pull")
            return _facts(path, data)


class _DamageError(Exception):
    """The bytes are not what the format asks for."""


class Message:
    """One protobuf message: its numbers, and the spans of its texts and messages, by field.

    `left` is a list with the number of fields that may still be read from the whole file.
    """

    def __init__(
        self, data: mmap.mmap | bytes, span: Span | None = None, left: list[int] | None = None
    ):
        self._data = data
        self._left = [MAX_FIELDS_OF_FILE] if left is None else left
        self._fields: dict[int, list[int | Span]] = {}
        count = 0
        for number, value in self._read(*(span or (0, len(data)))):
            self._fields.setdefault(number, []).append(value)
            count += 1
            if count > min(MAX_FIELDS, self._left[0]):
                raise _DamageError("it has more parts than a network has")
        self._left[0] -= count

    def _read(self, position: int, end: int) -> Iterator[tuple[int, int | Span]]:
        while position < end:
            key, position = self._varint(position, end)
            kind = key & 7
            value: int | Span
            if kind == 0:
                value, position = self._varint(position, end)
            elif kind in _LENGTHS:
                length = _LENGTHS[kind]
                if length is None:
                    length, position = self._varint(position, end)
                value = position, position + length
                position += length
            else:
                raise _DamageError(f"a field has the unknown type {kind}")
            if key < 8 or position > end:
                raise _DamageError("a field ends after the part that contains it")
            yield key >> 3, value

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise _DamageError("it ends in the middle of a number")
            byte = self._data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 2**64 - 1, position
        raise _DamageError("a number has more than ten bytes")

    def _spans(self, number: int) -> list[Span]:
        spans = [span for span in self._fields.get(number, []) if isinstance(span, tuple)]
        if len(spans) != len(self._fields.get(number, [])):
            raise _DamageError(f"field {number} is a number and should be a text or a message")
        return spans

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages in a field."""
        for span in self._spans(number):
            yield Message(self._data, span, self._left)

    def texts(self, number: int) -> list[str]:
        """Return the texts in a field."""
        return [self._data[start:end].decode() for start, end in self._spans(number)]

    def text(self, number: int) -> str:
        """Return the last text in a field, as protobuf asks; "" if there is none."""
        return (self.texts(number) or [""])[-1]

    def whole(self, number: int) -> int | None:
        """Return the last number in a field, as protobuf asks; None if there is none."""
        values = self._fields.get(number, [None])
        if isinstance(values[-1], tuple):
            raise _DamageError(f"field {number} should be a number")
        return values[-1]


# The numbers of the fields are those of onnx.proto.


def _facts(path: Path, data: mmap.mmap) -> OnnxFile:
    model = Message(data)
    graphs = list(model.messages(7))
    if not graphs or model.whole(1) is None:
        raise _DamageError("it has no graph")
    facts = OnnxFile(path)
    # Parts of one message may stand in several places.
    for graph in graphs:
        facts.inputs += _values(graph, 11)
        facts.outputs += _values(graph, 12)
        made = _read_graph(graph, facts, 0)
        known = {value.name: value for value in _values(graph, 13)}
        facts.inner |= {name: known.get(name, Value(name, "undefined", None)) for name in made}
    for function in model.messages(25):
        for node in function.messages(7):
            _read_node(node, facts, 0)
        for attribute in function.messages(11):
            _read_attribute(attribute, facts, 0)
    if not facts.outputs:
        raise _DamageError("its graph has no output")
    # Old files name the weights among the inputs too.
    facts.inputs = [value for value in facts.inputs if value.name not in facts.weights]
    for name in ("", *(output.name for output in facts.outputs)):
        facts.inner.pop(name, None)
    return facts


def _values(graph: Message, number: int) -> list[Value]:
    return [_value(value) for value in graph.messages(number)]


def _value(message: Message) -> Value:
    element, shape = 0, None
    for kind in message.messages(2):
        for tensor in kind.messages(1):
            element = tensor.whole(1) or 0
            for axes in tensor.messages(2):
                shape = tuple(map(_length, axes.messages(1)))
    return Value(message.text(1), _element(element), shape)


def _element(number: int) -> str:
    return _ELEMENTS[number] if number < len(_ELEMENTS) else f"type {number}"


def _length(axis: Message) -> int | None:
    """Return the length of an axis; exporters write 0 or -1 for an open one, too."""
    length = axis.whole(1)
    return length if length is not None and 0 < length < 2**31 else None


def _read_graph(graph: Message, facts: OnnxFile, depth: int) -> list[str]:
    """Note the weights and operators of a graph, and return the names of what its nodes make."""
    if depth > MAX_DEPTH:
        raise _DamageError("its graphs are nested too deeply")
    for tensor in graph.messages(5):
        _read_tensor(tensor, facts)
    for sparse in graph.messages(15):
        _read_sparse(sparse, facts)
    return [name for node in graph.messages(1) for name in _read_node(node, facts, depth)]


def _read_node(node: Message, facts: OnnxFile, depth: int) -> list[str]:
    operator = node.text(4)
    facts.operators.add(operator)
    for attribute in node.messages(5):
        _read_attribute(attribute, facts, depth)
        if operator == "BatchNormalization" and attribute.text(1) == "training_mode":
            facts.is_training |= bool(attribute.whole(3))
    return node.texts(2)


def _read_attribute(attribute: Message, facts: OnnxFile, depth: int) -> None:
    for number in (5, 10):
        for tensor in attribute.messages(number):
            _read_tensor(tensor, facts)
    for number in (22, 23):
        for sparse in attribute.messages(number):
            _read_sparse(sparse, facts)
    for number in (6, 11):
        for graph in attribute.messages(number):
            _read_graph(graph, facts, depth + 1)


def _read_sparse(sparse: Message, facts: OnnxFile) -> None:
    for number in (1, 2):
        for tensor in sparse.messages(number):
            _read_tensor(tensor, facts)


def _read_tensor(tensor: Message, facts: OnnxFile) -> None:
    """Note the type of a weight; check the file with its values if that is another file."""
    facts.elements.add(_element(tensor.whole(2) or 0))
    facts.weights.add(tensor.text(8))
    pairs = [(entry.text(1), entry.text(2)) for entry in tensor.messages(13)]
    if not pairs and tensor.whole(14) != 1:
        return
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise _DamageError("a weight has two places")  # readers might take the other
    place = entries.get("location", "")
    path = facts.path.parent / _checked_place(place, facts.path)
    if not path.is_file():
        raise WeightsError(
            f"The weights of {facts.path} are in another file, which is not there: {path}. Put it "
            "beside the ONNX file."
        )
    end = _number(entries.get("offset", "0")) + _number(entries.get("length", "0"))
    size = path.stat().st_size
    if end > size:
        raise WeightsError(
            f"The weights of {facts.path} are in another file, which is truncated: {path} has "
            f"{size} bytes, expected at least {end}."
        )
    facts.external.add(path)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _DamageError("the place of a weight is no number")
    return int(text)


def _checked_place(place: str, path: Path) -> str:
    """Return the relative path of a file in the folder of the ONNX file, or below it."""
    parts = {*PurePosixPath(place).parts, *PureWindowsPath(place).parts}
    is_relative = not PurePosixPath(place).is_absolute() and not PureWindowsPath(place).anchor
    if not place or not is_relative or ".." in parts or not place.isprintable():
        _refuse_place(place, path)
    return place


def _refuse_place(place: str, path: Path) -> NoReturn:
    raise WeightsError(
        f"{path} names a file with weights outside of its folder, which is not read: {place!r:.200}"
    )
