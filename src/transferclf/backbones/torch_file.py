"""Read weights from files of `torch.save` as PyTorch wrote them before version 1.6.

Such a file is five pickles (a magic number, the format, facts about the system, the state dict, the
keys of the storages), and after them the numbers of each storage.

**Nothing in a file can be executed.** The standard library's `pickle` is not used: it calls what a
file names. Here `pickletools.genops` splits the bytes into operations, which is decoding alone. The
few operations that a state dict needs are done by `_Pickle` on lists, dicts and tuples. The names
that it accepts stay texts in a `_Name`: none is imported, looked up or called. A call of
`OrderedDict` means an empty dict. A call of `_rebuild_tensor_v2` means a `_Tensor`, a description
that is compared with the numbers that are there. Everything else is an error, also attributes of
anything but a dict. No text or number in the file decides how much memory is taken, because arrays
are views of the file.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from transferclf.exceptions import WeightsError

# A file of EfficientNet-Lite2 has 25 MB and 14,000 operations.
MAX_BYTES = 2**28
MAX_OPERATIONS = 10**6
MAX_AXES = 8

_MAGIC = 0x1950A86A20F9469CFC6C
_FORMAT = 1001
_ZIP = b"PK\x03\x04"  # the format of PyTorch 1.6 and later

_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
}
_NAMES = {_ORDERED_DICT, _TENSOR, *_STORAGES}


T = TypeVar("T")


class _RefusedError(ValueError):
    """The file is not of the format."""


@dataclass(frozen=True)
class _Name:
    """The name of a function or class, which is never looked up."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: their key, their type and how many they are."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A part of a storage with a shape; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict by name, float32; they may not be written to.

    `sha256` is the expected digest of the file. It is compared before anything is decoded.
    WeightsError is raised for another digest, and for a file that is missing, truncated or not of
    this format.
    """
    content = _content(path)
    if sha256 is not None:
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise WeightsError(
                f"{path} is damaged, or not the published file: its SHA-256 is {found}, expected "
                f"{sha256}."
            )
    try:
        return _arrays(content)
    # `genops` raises ValueError for damage, and the steps below the other two for missing values.
    except (ValueError, LookupError, OverflowError) as error:
        reason = str(error) if isinstance(error, _RefusedError) else "it is damaged or truncated"
        raise WeightsError(
            f"{path} is no state dict in the format that PyTorch wrote before version 1.6: "
            f"{reason}. Nothing in it was executed."
        ) from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise WeightsError(f"{path} has more than {MAX_BYTES:,} bytes: it was not read.")
    return content


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    if content.startswith(_ZIP):
        raise _RefusedError(
            "it is a zip file of a later version; write it by "
            "torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)"
        )
    file = io.BytesIO(content)
    if _Pickle().run(file) != _MAGIC or _Pickle().run(file) != _FORMAT:
        raise _RefusedError("it does not begin like one")
    system = _Pickle().run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("its numbers are not little-endian")
    pickle = _Pickle()
    state, keys = pickle.run(file), _Pickle().run(file)
    if not isinstance(state, dict):
        raise _RefusedError("it holds no dict of tensors, but perhaps a whole model")
    storages = _storages(content, file.tell(), keys, pickle.storages)
    return {name: _array(tensor, storages) for name, tensor in state.items()}


def _storages(
    content: bytes, position: int, keys: object, known: dict[str, _Storage]
) -> dict[str, np.ndarray]:
    """Return the numbers of each storage, which follow each other from `position` to the end."""
    if not isinstance(keys, list) or len(keys) != len(known):
        raise _RefusedError("its list of storages does not fit its tensors")
    storages = {}
    for each in keys:
        storage = known[key := _checked(each, str)]
        (count,) = struct.unpack("<q", _part(content, position, 8))
        if count != storage.count:
            raise _RefusedError(f"it has {count} numbers for a storage of {storage.count}")
        dtype = np.dtype(storage.dtype)
        part = _part(content, position + 8, count * dtype.itemsize)
        storages[key] = np.frombuffer(part, dtype).astype(np.float32, copy=False)
        position += 8 + len(part)
    if position != len(content):
        raise _RefusedError("more bytes follow its last storage")
    return storages


def _part(content: bytes, start: int, count: int) -> memoryview:
    part = memoryview(content)[start : start + count]
    if len(part) != count:
        raise _RefusedError("it is truncated")
    return part


def _array(tensor: object, storages: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor, _Tensor):
        raise _RefusedError(f"an entry is no tensor but {type(tensor).__name__}")
    storage, shape = storages[tensor.storage.key], tensor.shape
    last = sum((side - 1) * stride for side, stride in zip(shape, tensor.strides, strict=True))
    size = math.prod(shape)
    # Strides of 0 would make a large array of few numbers.
    if size > len(storage) or (size and tensor.offset + last >= len(storage)):
        raise _RefusedError("a tensor reaches beyond its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return as_strided(storage[tensor.offset :], shape, strides, writeable=False)


class _Pickle:
    """The operations of one pickle, done on Python's own containers and the records above."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # stacks below the open marks
        self.memo: dict[int, object] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, file: io.BytesIO) -> object:
        """Return the value of the pickle at this position of a file, and go behind it."""
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MAX_OPERATIONS:
                raise _RefusedError(f"it has more than {MAX_OPERATIONS:,} operations")
            if operation.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[operation.name])
            elif operation.name in _LITERALS:
                self.stack.append(argument)
            elif operation.name in _STEPS:
                _STEPS[operation.name](self, argument)
            else:
                raise _RefusedError(f"it has the operation {operation.name}")
        value = self.stack.pop()
        if self.stack or self.below:
            raise _RefusedError("a value is left over")
        return value

    def ignore(self, argument: object) -> None:
        """Do nothing: the number of the protocol, and the end."""

    def mark(self, argument: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        """Return the values since the last mark, and take them away."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def name(self, argument: str) -> None:
        if argument not in _NAMES:
            raise _RefusedError(f"it names {argument[:80]!r}, which no state dict needs")
        self.stack.append(_Name(argument))

    def put(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def new_dict(self, argument: object) -> None:
        self.stack.append({})

    def new_list(self, argument: object) -> None:
        self.stack.append([])

    def tuple_of(self, count: int) -> None:
        values = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def tuple_since_mark(self, argument: object) -> None:
        values = self.since_mark()
        self.stack.append(tuple(values))

    def append_all(self, argument: object) -> None:
        values = self.since_mark()
        _checked(self.stack[-1], list).extend(values)

    def set_item(self, argument: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _checked(self.stack[-1], dict)[_checked(key, str)] = value

    def set_items(self, argument: object) -> None:
        values = self.since_mark()
        items = _checked(self.stack[-1], dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            items[_checked(key, str)] = value

    def set_attributes(self, argument: object) -> None:
        """Leave out the attributes of a dict: PyTorch's versions of its layers."""
        _checked(self.stack.pop(), dict)
        _checked(self.stack[-1], dict)

    def storage(self, argument: object) -> None:
        kind, name, key, _, count, view = _fields(self.stack.pop(), 6)
        dtype = _STORAGES.get(_checked(name, _Name).text)
        if kind != "storage" or dtype is None or view is not None:
            raise _RefusedError("a storage is of an unknown kind")
        storage = _Storage(_checked(key, str), dtype, _whole(count))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise _RefusedError("a storage has two descriptions")
        self.stack.append(storage)

    def called(self, argument: object) -> None:
        """Put the value in place that a call means, without a call."""
        arguments, name = self.stack.pop(), _checked(self.stack.pop(), _Name)
        if name.text == _ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif name.text == _TENSOR:
            self.stack.append(_tensor(arguments))
        else:
            raise _RefusedError(f"it calls {name.text}")


def _tensor(arguments: object) -> _Tensor:
    """Return the description of a tensor from the arguments of `_rebuild_tensor_v2`."""
    storage, offset, sizes, strides, _, _ = _fields(arguments, 6)
    shape = tuple(map(_whole, _checked(sizes, tuple)))
    steps = tuple(map(_whole, _checked(strides, tuple)))
    if len(shape) != len(steps) or len(shape) > MAX_AXES:
        raise _RefusedError(f"a tensor has {len(shape)} sides and {len(steps)} strides")
    return _Tensor(_checked(storage, _Storage), _whole(offset), shape, steps)


def _fields(values: object, count: int) -> tuple[object, ...]:
    fields = _checked(values, tuple)
    if len(fields) != count:
        raise _RefusedError(f"a record has {len(fields)} fields")
    return fields


def _checked(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise _RefusedError(f"it has a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _whole(value: object) -> int:
    number = _checked(value, int)
    if not 0 <= number <= MAX_BYTES or isinstance(value, bool):
        raise _RefusedError("a size is no number of a state dict")
    return number


_CONSTANTS = {"EMPTY_TUPLE": (), "NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1"}
_STEPS: dict[str, Callable[[_Pickle, Any], None]] = {
    "PROTO": _Pickle.ignore,
    "STOP": _Pickle.ignore,
    "MARK": _Pickle.mark,
    "GLOBAL": _Pickle.name,
    "BINPUT": _Pickle.put,
    "LONG_BINPUT": _Pickle.put,
    "BINGET": _Pickle.get,
    "LONG_BINGET": _Pickle.get,
    "EMPTY_DICT": _Pickle.new_dict,
    "EMPTY_LIST": _Pickle.new_list,
    "TUPLE": _Pickle.tuple_since_mark,
    "TUPLE1": lambda pickle, _: pickle.tuple_of(1),
    "TUPLE2": lambda pickle, _: pickle.tuple_of(2),
    "TUPLE3": lambda pickle, _: pickle.tuple_of(3),
    "APPENDS": _Pickle.append_all,
    "SETITEM": _Pickle.set_item,
    "SETITEMS": _Pickle.set_items,
    "BUILD": _Pickle.set_attributes,
    "BINPERSID": _Pickle.storage,
    "REDUCE": _Pickle.called,
}
