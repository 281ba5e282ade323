"""Which samples are trained on and which are held out: indices only, no pixels are copied.

Split first and oversample the training part after: a copy of a training image among the
validation images would be recognised, not classified.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import column_or_1d

from transferclf._checks import check_number, check_seed
from transferclf.exceptions import InvalidParameterError

# So many classes are named in a message, the smallest first.
NAMED = 10


def oversampled_indices(labels: Any, seed: int) -> np.ndarray:
    """Repeat samples of the smaller classes until every class has as many as the largest.

    Parameters
    ----------
    labels : array-like of shape (n,)
        The class of each sample.
    seed : int
        Determines which samples of a class are repeated once more than the others.

    Returns
    -------
    ndarray of int, shape (n_classes * count of the largest class,)
        All samples in their order first, then the repetitions, class by class. Within a class, no
        sample comes twice more often than another.

    Raises
    ------
    ValueError
        If there are no labels, labels are missing or not one-dimensional.
    InvalidParameterError
        If `seed` is not a whole number from 0 to 2**32 - 1.

    Examples
    --------
    >>> oversampled_indices(["cat", "cat", "dog"], seed=0).tolist()
    [0, 1, 2, 2]
    """
    labels = _checked_labels(labels)
    rng = np.random.default_rng(_checked_seed(seed))
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    repeated = [
        _repetitions(np.flatnonzero(classes == number), int(counts.max() - count), rng)
        for number, count in enumerate(counts)
    ]
    return np.concatenate([np.arange(len(labels)), *repeated])


def _repetitions(samples: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """So many repetitions of these samples: all of them in turn, then some drawn."""
    rounds, rest = divmod(wanted, len(samples))
    return np.concatenate([np.tile(samples, rounds), rng.choice(samples, rest, replace=False)])


def validation_split(
    labels: Any, fraction: float, seed: int, groups: Sequence[Hashable] | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out part of the samples for validation, every class in proportion.

    Parameters
    ----------
    labels : array-like of shape (n,)
        The class of each sample.
    fraction : float
        How much is held out, above 0 and below 1; of groups, where there are some.
    seed : int
        Determines which samples.
    groups : sequence of hashables, shape (n,), or None, default=None
        Samples of equal groups stay together. Digests of the images keep copies of one image on
        one side. A group is of the class of its first sample.

    Returns
    -------
    train, validation : ndarray of int
        Indices, each sorted; together all of them. Every class is in `train`.

    Raises
    ------
    InvalidParameterError
        If `fraction` is not between 0 and 1, or leaves too few samples on one side for one of
        each class; the message says which fraction would do.
    ValueError
        If a class has fewer than two samples (or groups), or labels are missing.

    Examples
    --------
    >>> train, validation = validation_split([0, 0, 0, 1, 1, 1], 1 / 3, seed=0)
    >>> len(train), len(validation)
    (4, 2)
    >>> _, validation = validation_split(list("aaabbb"), 0.5, seed=0, groups=list("xxyuuv"))
    >>> [index in validation for index in (0, 1)] in ([True, True], [False, False])
    True
    """
    labels = _checked_labels(labels)
    _check_fraction(fraction)
    seed = _checked_seed(seed)
    group_of, first = _numbered(range(len(labels)) if groups is None else groups, len(labels))
    names, classes = np.unique(labels, return_inverse=True)
    of_groups = classes[first]
    counts = np.bincount(of_groups, minlength=len(names))
    _check_counts(names, counts, len(first) < len(labels))
    n_validation = _held_out(len(first), fraction, names, counts)
    splitter = StratifiedShuffleSplit(1, test_size=n_validation, random_state=seed)
    train, validation = next(splitter.split(first, of_groups))
    _check_train(names, of_groups[train], fraction)
    is_validation = np.isin(np.arange(len(first)), validation)[group_of]
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _numbered(groups: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each sample's group, and the first sample of each group."""
    # Not by NumPy, which drops zero bytes at the end of digests.
    numbers: dict[Hashable, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    if len(group_of) != n_samples:
        raise ValueError(
            f"expected one group for each of {n_samples} images. Got {len(group_of)} instead."
        )
    return group_of, np.unique(group_of, return_index=True)[1]


def _held_out(n: int, fraction: float, names: np.ndarray, counts: np.ndarray) -> int:
    """How many of n are for validation: rounded up, as scikit-learn does."""
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


def _check_train(names: np.ndarray, classes: np.ndarray, fraction: float) -> None:
    counts = np.bincount(classes, minlength=len(names))
    if counts.min() == 0:
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} leaves nothing to train on of some classes: "
            f"{_shown(names, counts, below=1)}. Take at most 0.5."
        )


def _shown(names: np.ndarray, counts: np.ndarray, below: float = np.inf) -> str:
    """The classes with the fewest samples, and how many these are."""
    order = [number for number in np.argsort(counts, kind="stable") if counts[number] < below]
    texts = names.tolist()
    shown = [f"{counts[number]} of {texts[number]!r}" for number in order[:NAMED]]
    return ", ".join(shown) + (f" and {len(order) - NAMED} more" if len(order) > NAMED else "")


def _checked_labels(labels: Any) -> np.ndarray:
    labels = column_or_1d(labels)
    if len(labels) == 0:
        raise ValueError("expected a label for at least one image. Got none.")
    # NaN differs from itself.
    missing = [i for i, label in enumerate(labels.tolist()) if label is None or label != label]
    if missing:
        raise ValueError(f"expected a label for every image. Got none at index {missing[0]}.")
    return labels


def _check_fraction(fraction: Any) -> None:
    check_number("the validation fraction", fraction, 0, 1, above=True, below=True)


def _checked_seed(seed: Any) -> int:
    check_seed(seed)
    return int(seed)
