"""Looks at images in little memory behave as lists of looks."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from transferclf.images.formats import Look
from transferclf.images.looks import Digests, Looks


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


def looks(length):
    made = Looks(length)
    for position in range(length):
        made[position] = Look(digest(position), (position % 3, 5), "RGB" if position % 2 else "")
    return made


def test_looks_are_what_was_set():
    made = looks(10)
    assert list(made)[7] == made[7] == Look(digest(7), (1, 5), "RGB")
    assert list(made.digests) == list(map(digest, range(10)))
    assert made == looks(10)
    made[3] = Look(digest(99), (8, 8), "L", "libjpeg")
    assert made[3] == Look(digest(99), (8, 8), "L", "libjpeg")
    assert made != looks(10)
    with pytest.raises(IndexError):
        made[10]


def test_digests_that_end_in_zeros_are_told_apart():
    first, second = b"a" * 31 + b"\0", b"a" * 30 + b"\0\0"
    digests = Digests.of([second, first, second, b"\0" * 32], 4)
    found = digests.at(np.array([3, 2, 1, 0]))
    _, index, copy_of = np.unique(found, return_index=True, return_inverse=True)
    assert index[copy_of].tolist() == [0, 1, 2, 1]
    copy = digests.copy()
    copy[0] = first
    assert (digests[0], copy[0]) == (second, first)


def test_a_digest_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 32 bytes, got 5"):
        Digests(1)[0] = b"short"


def test_an_image_takes_less_than_fifty_bytes():
    tracemalloc.start()
    made = looks(20_000)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 50 * len(made)
