"""Oversampling and holding out samples: indices only, no pixels are copied.

Split first and oversample the training part after: a copy of a training image among the
validation images would be recognised, not classified.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import column_or_1d

from transferclf._checks import check_number, check_seed
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import numpy.typing as npt

# So many classes are named in a message, the smallest first.
NAMED = 10


def oversampled_indices(labels: npt.ArrayLike, seed: int) -> np.ndarray:
    """Return indices of samples that make every class as large as the largest one.

    All samples come first in their order, then the repetitions, class by class. Within a class, no
    sample comes twice more often than another; `seed` determines which come once more. ValueError
    is raised if there are no labels, labels are missing or not one-dimensional.
    """
    column = _checked_labels(labels)
    check_seed(seed)
    rng = np.random.default_rng(int(seed))
    _, classes, counts = np.unique(column, return_inverse=True, return_counts=True)
    repeated = []
    for number, count in enumerate(counts):
        samples = np.flatnonzero(classes == number)
        # All samples of the class in turn, then some that are drawn.
        rounds, rest = divmod(int(counts.max() - count), len(samples))
        repeated += [np.tile(samples, rounds), rng.choice(samples, rest, replace=False)]
    return np.concatenate([np.arange(len(column)), *repeated])


def validation_split(
    labels: npt.ArrayLike, fraction: float, seed: int, groups: Iterable[Hashable] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted indices of samples to train on and to hold out, every class in proportion.

    `fraction` is the held-out share of the samples, or of the groups. Samples of equal groups stay
    together: digests of the images keep copies of one image on one side. A group is of the class of
    its first sample. Every class is in the training part.

    InvalidParameterError is raised if the fraction leaves too few samples on one side for one of
    each class, and ValueError if a class has fewer than two samples (or groups).
    """
    column = _checked_labels(labels)
    check_number("the validation fraction", fraction, 0, 1, above=True, below=True)
    check_seed(seed)
    group_of, first = numbered(range(len(column)) if groups is None else groups, len(column))
    names, classes = np.unique(column, return_inverse=True)
    of_groups = classes[first]
    counts = np.bincount(of_groups, minlength=len(names))
    _check_counts(names, counts, len(first) < len(column))
    n_validation = _held_out(len(first), fraction, names, counts)
    splitter = StratifiedShuffleSplit(1, test_size=n_validation, random_state=int(seed))
    train, validation = next(splitter.split(first, of_groups))
    left = np.bincount(of_groups[train], minlength=len(names))
    if left.min() == 0:
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} leaves nothing to train on of some classes: "
            f"{_shown(names, left, below=1)}. Take at most 0.5."
        )
    is_validation = np.isin(np.arange(len(first)), validation)[group_of]
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def held_out_groups(
    n_samples: int, fraction: float, seed: int, groups: Iterable[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted indices of samples to train on and to hold out, drawn at random.

    `fraction` is the held-out share of the groups; samples of equal groups stay together.
    InvalidParameterError is raised if it leaves no group to train on.
    """
    check_number("the validation fraction", fraction, 0, 1, above=True, below=True)
    group_of, first = numbered(groups, n_samples)
    n_groups = len(first)
    n_validation = int(np.ceil(n_groups * fraction))
    if n_validation >= n_groups:
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} holds out {n_validation} of {n_groups} "
            "different images and leaves none to train on. Add images, or take less."
        )
    drawn = np.random.default_rng(seed).permutation(n_groups)[:n_validation]
    is_validation = np.isin(group_of, drawn)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def numbered(groups: Iterable[Hashable], n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each sample's group, and the first sample of each group."""
    # Not by NumPy, which drops zero bytes at the end of digests.
    numbers: dict[Hashable, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    if len(group_of) != n_samples:
        raise ValueError(
            f"expected one group for each of {n_samples} images. Got {len(group_of)} instead."
        )
    return group_of, np.unique(group_of, return_index=True)[1]


def _held_out(n: int, fraction: float, names: np.ndarray, counts: np.ndarray) -> int:
    """Return how many of n to hold out: rounded up, as scikit-learn does."""
    n_validation = int(np.ceil(n * fraction))
    if n_validation < len(counts):
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} is {n_validation} of {n} images, too few for "
            f"one of each of {len(counts)} classes ({_shown(names, counts)}). Take at least "
            f"{len(counts) / n:.6g}."
        )
    if n - n_validation < len(counts):
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} leaves {n - n_validation} of {n} images to "
            f"train on, too few for one of each of {len(counts)} classes "
            f"({_shown(names, counts)}). Take at most {(n - len(counts)) / n:.6g}."
        )
    return n_validation


def _check_counts(names: np.ndarray, counts: np.ndarray, has_copies: bool) -> None:
    if counts.min() < 2:
        different = "different images" if has_copies else "images"
        raise ValueError(
            f"expected at least two {different} of each class, one to train on and one to "
            f"validate with. Got {_shown(names, counts, below=2)}; add images or leave these "
            "classes out."
        )


def _shown(names: np.ndarray, counts: np.ndarray, below: float = np.inf) -> str:
    """Return the classes with the fewest samples, and how many these are, as text."""
    order = [number for number in np.argsort(counts, kind="stable") if counts[number] < below]
    texts = names.tolist()
    shown = [f"{counts[number]} of {texts[number]!r}" for number in order[:NAMED]]
    return ", ".join(shown) + (f" and {len(order) - NAMED} more" if len(order) > NAMED else "")


def _checked_labels(labels: npt.ArrayLike) -> np.ndarray:
    column: np.ndarray = column_or_1d(labels)
    if len(column) == 0:
        raise ValueError("expected a label for at least one image. Got none.")
    # NaN differs from itself.
    missing = [i for i, label in enumerate(column.tolist()) if label is None or label != label]
    if missing:
        raise ValueError(f"expected a label for every image. Got none at index {missing[0]}.")
    return column
