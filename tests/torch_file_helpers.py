"""Write files in the format of `torch.save` before PyTorch 1.6, whole ones and hostile ones."""

import struct

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage"}


def pickled(*operations):
    return b"\x80\x02" + b"".join(operations) + b"."


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value):
    return b"J" + struct.pack("<i", value)


def group(*values):
    return b"(" + b"".join(values) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def called(function, *arguments):
    return function + group(*arguments) + b"R"


def storage(key, kind, count):
    fields = (text("storage"), name("torch", kind), text(key), text("cpu"), whole(count), b"N")
    return group(*fields) + b"Q"


def tensor(stored, offset, shape, strides):
    sides = (group(*map(whole, numbers)) for numbers in (shape, strides))
    hooks = called(name("collections", "OrderedDict"))
    function = name("torch._utils", "_rebuild_tensor_v2")
    return called(function, stored, whole(offset), *sides, b"\x89", hooks)


def tensor_of(key, array):
    """Return a tensor with the strides of an array, in a storage of its own."""
    kind = KINDS[array.dtype.newbyteorder("<").str]
    strides = [stride // array.itemsize for stride in array.strides]
    return tensor(storage(key, kind, array.size), 0, array.shape, strides)


def state_dict(entries):
    """Return the pickle of a state dict with the operations of each value."""
    items = b"".join(text(key) + value for key, value in entries.items())
    versions = b"}" + text("_metadata") + b"}s"  # PyTorch's versions of its layers
    return pickled(called(name("collections", "OrderedDict")), b"(" + items + b"u", versions, b"b")


def file_of(state, storages):
    """Return the content of a file with a pickle and the arrays of its storages by key."""
    magic = MAGIC.to_bytes(10, "little")
    system = b"}" + text("little_endian") + b"\x88s"
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    head = (pickled(b"\x8a\x0a" + magic), pickled(b"M\xe9\x03"), pickled(system))
    numbers = [struct.pack("<q", it.size) + it.ravel("K").tobytes() for it in storages.values()]
    return b"".join((*head, state, pickled(keys), *numbers))


def saved(arrays):
    """Return the content of a file with these arrays."""
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    entries = {key: tensor_of(f"s{key}", array) for key, array in arrays.items()}
    return file_of(state_dict(entries), {f"s{key}": array for key, array in arrays.items()})
