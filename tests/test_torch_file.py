"""Files of `torch.save` before PyTorch 1.6: their arrays, and no execution whatever they hold."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_file_helpers import (
    called,
    file_of,
    group,
    name,
    pickled,
    saved,
    state_dict,
    storage,
    tensor,
    tensor_of,
    text,
    whole,
)

from transferclf.backbones import torch_file
from transferclf.backbones.torch_file import read_torch_file
from transferclf.exceptions import WeightsError

ARRAYS = {
    "conv.weight": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "conv.turned": np.arange(24, dtype="<f4").reshape(2, 3, 4).transpose(2, 0, 1),
    "double": np.array([1.5, -2.5], "<f8"),
    "half": np.array([0.25], "<f2"),
    "steps": np.array(7, "<i8"),
    "nothing": np.zeros((0, 3), "<f4"),
}
FLAG = "executed"
SYSTEM = f"touch {FLAG}"
NUMBERS = {"s": np.arange(6, dtype="<f4")}
STORED = storage("s", "FloatStorage", 6)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that reads a file with a given content, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def read(content, **arguments):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return read_torch_file(path, **arguments)

    return read


def test_arrays_are_those_that_were_saved(read):
    found = read(saved(ARRAYS))
    assert list(found) == list(ARRAYS)
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == np.float32
        assert not found[key].flags.writeable


def test_tensors_may_share_a_storage(read):
    entries = {"a": tensor(STORED, 0, [2, 2], [2, 1]), "b": tensor(STORED, 2, [2, 2], [1, 2])}
    found = read(file_of(state_dict(entries), NUMBERS))
    np.testing.assert_array_equal(found["a"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(found["b"], [[2, 4], [3, 5]])


def test_files_of_pytorch_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.BatchNorm2d(4))
    path = tmp_path / "torch.pth"
    torch.save(layers.state_dict(), path, _use_new_zipfile_serialization=False)
    found = read_torch_file(path)
    assert list(found) == list(layers.state_dict())
    for key, value in layers.state_dict().items():
        np.testing.assert_array_equal(found[key], value.numpy())
    torch.save(layers.state_dict(), path)
    with pytest.raises(WeightsError, match="zip file of a later version"):
        read_torch_file(path)


def test_the_digest_is_compared_before_the_file_is_decoded(read, monkeypatch):
    content = saved(ARRAYS)
    digest = hashlib.sha256(content).hexdigest()
    assert list(read(content, sha256=digest)) == list(ARRAYS)
    monkeypatch.setattr(torch_file, "_arrays", None)  # calling it would be a TypeError
    with pytest.raises(WeightsError, match=f"expected {digest}"):
        read(content[:-1] + b"x", sha256=digest)


def test_every_truncated_file_is_refused(read):
    content = saved({"half": ARRAYS["half"]})
    for length in range(len(content)):
        with pytest.raises(WeightsError):
            read(content[:length])
    with pytest.raises(WeightsError, match="more bytes follow"):
        read(content + b"\0")


@settings(max_examples=50)
@given(st.data())
def test_a_changed_file_is_refused_or_gives_arrays(tmp_path_factory, data):
    content = bytearray(saved(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "weights.pth"
    path.write_bytes(content)
    try:
        found = read_torch_file(path)
    except WeightsError:
        return
    assert all(array.dtype == np.float32 for array in found.values())
    # A forged shape makes no array larger than what the file has.
    assert max((array.nbytes for array in found.values()), default=0) <= 2 * len(content)


EXECUTING = {
    "a call by REDUCE": called(name("posix", "system"), text(SYSTEM)),
    "a call by INST": b"(" + text(SYSTEM) + b"iposix\nsystem\n",
    "a call by OBJ": b"(" + name("posix", "system") + text(SYSTEM) + b"o",
    "a call by NEWOBJ": name("posix", "system") + group(text(SYSTEM)) + b"\x81",
    "a name from texts": text("posix") + text("system") + b"\x93",
    "a registered name": b"\x82\x01",
    "eval": called(name("builtins", "eval"), text(f"open({FLAG!r}, 'w')")),
    "a name with a path": name("torch._utils", "_rebuild_tensor_v2.__globals__"),
    "a class with __setstate__": called(name("subprocess", "Popen")) + b"}b",
    "a state for a tensor": tensor(STORED, 0, [6], [1]) + b"}b",
    "arguments for a dict": called(name("collections", "OrderedDict"), b"]"),
    "a call of a storage": called(name("torch", "FloatStorage"), whole(3)),
    "a call of an argument": called(b"}", b"}"),
    "a persistent id in text": b"Pposix.system\n",
}


@pytest.mark.parametrize("operations", EXECUTING.values(), ids=EXECUTING)
def test_nothing_in_a_file_is_executed(read, tmp_path, operations):
    storages = NUMBERS if b"Q" in operations else {}
    for state in (pickled(operations), state_dict({"weight": operations})):
        with pytest.raises(WeightsError, match="Nothing in it was executed"):
            read(file_of(state, storages))
    assert not (tmp_path / FLAG).exists()


def test_the_first_pickles_execute_nothing_either(read, tmp_path):
    hostile = pickled(EXECUTING["a call by REDUCE"])
    content = saved(ARRAYS)
    ends = (content.find(b".\x80\x02", start) + 1 for start in (0, 20, 30))
    for start in {0, *ends}:
        with pytest.raises(WeightsError, match=r"posix system|not begin like one"):
            read(content[:start] + hostile + content[start:])
    assert not (tmp_path / FLAG).exists()


FORGED = {
    "beyond its storage": tensor(STORED, 1, [6], [1]),
    "a stride beyond its storage": tensor(STORED, 0, [2], [6]),
    "many values of one number": tensor(STORED, 0, [100, 100], [0, 0]),
    "an enormous shape": tensor(STORED, 0, [2**30] * 8, [1] * 8),
    "a negative stride": tensor(STORED, 5, [6], [-1]),
    "a negative side": tensor(STORED, 0, [-1, -6], [1, 1]),
    "other strides than sides": tensor(STORED, 0, [2, 3], [1]),
    "hundreds of sides": tensor(STORED, 0, [1] * 300, [1] * 300),
    "a number for a shape": called(
        name("torch._utils", "_rebuild_tensor_v2"), STORED, *[whole(0)] * 5
    ),
    "a number": STORED + b"0" + whole(3),
    "an enormous storage": tensor(storage("s", "FloatStorage", 2**31 - 1), 0, [6], [1]),
    "a storage of code": tensor(storage("s", "UntypedStorage", 6), 0, [6], [1]),
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
def test_forged_sizes_are_refused(read, value):
    with pytest.raises(WeightsError, match="no state dict in the format"):
        read(file_of(state_dict({"weight": value}), NUMBERS))


def test_a_forged_count_of_numbers_takes_no_memory(read):
    count = 2**62
    content = file_of(state_dict({"weight": tensor(STORED, 0, [6], [1])}), NUMBERS)
    numbers = struct.pack("<q", 6) + NUMBERS["s"].tobytes()
    assert content.endswith(numbers)
    for forged in (count, -1, 5):
        with pytest.raises(WeightsError, match=f"{forged} numbers for a storage of 6"):
            read(content.removesuffix(numbers) + struct.pack("<q", forged) + numbers[8:])
    # A text, a number and an array of bytes that are longer than the file.
    for long in (b"X\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x0f"):
        with pytest.raises(WeightsError, match="damaged or truncated"):
            read(long.join((content[:2], content[2:])))


def test_bombs_of_references_are_refused_at_once(read, monkeypatch):
    # Each tuple holds the one before twice: 2 ** 60 references if it were printed or compared.
    doubled = b"N" + b"".join(b"q\x00h\x00\x86" for _ in range(60))
    deep = b"N" + b"\x85" * 20_000
    marks = b"(" * 20_000
    itself = b"}q\x00" + text("me") + b"h\x00s"
    for bomb in (doubled, deep, marks, itself, deep + b"0" + doubled):
        with pytest.raises(WeightsError):
            read(file_of(state_dict({"weight": bomb}), {}))
        with pytest.raises(WeightsError):
            read(file_of(pickled(bomb), {}))
    monkeypatch.setattr(torch_file, "MAX_OPERATIONS", 1000)
    with pytest.raises(WeightsError, match="more than 1,000 operations"):
        read(file_of(pickled(deep), {}))


def test_lists_of_storages_are_compared_with_the_tensors(read):
    entries = {key: tensor_of(key, NUMBERS["s"]) for key in ("a", "b")}
    numbers = dict.fromkeys(("a", "b", "c"), NUMBERS["s"])
    found = read(file_of(state_dict(entries), dict.fromkeys(entries, NUMBERS["s"])))
    assert list(found) == ["a", "b"]
    for storages in (numbers, {"a": numbers["a"]}, {"a": numbers["a"], "c": numbers["c"]}):
        with pytest.raises(WeightsError, match="no state dict"):
            read(file_of(state_dict(entries), storages))
    two = {
        "a": tensor_of("a", NUMBERS["s"]),
        "b": tensor(storage("a", "LongStorage", 6), 0, [], []),
    }
    with pytest.raises(WeightsError, match="two descriptions"):
        read(file_of(state_dict(two), {"a": numbers["a"]}))


def test_other_files_are_named(read, tmp_path, monkeypatch):
    for content in (b"", b"\x89HDF\r\n", b"not weights", pickled(b"N"), pickled(text("magic"))):
        with pytest.raises(WeightsError, match=r"weights\.pth is no state dict"):
            read(content)
    with pytest.raises(WeightsError, match=r"missing\.pth cannot be read: No such file"):
        read_torch_file(tmp_path / "missing.pth")
    monkeypatch.setattr(torch_file, "MAX_BYTES", 10)
    with pytest.raises(WeightsError, match="more than 10 bytes"):
        read(saved(ARRAYS))
