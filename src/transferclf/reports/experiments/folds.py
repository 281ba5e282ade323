"""The folds that all runs share, and the digest of their data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np
from PIL import Image
from sklearn.model_selection import StratifiedKFold, check_cv

from transferclf.exceptions import InvalidParameterError
from transferclf.images.deep import pixels_digest
from transferclf.images.loading import content_digests
from transferclf.images.source import check_images
from transferclf.reports.experiments.values import digest_of
from transferclf.reports.predictions import n_samples_of

# Deals the folds where `cv` is a number.
SEED = 0


class Fold(NamedTuple):
    """A training set and a test set, of the kinds that the caller gave."""

    X_train: Any
    y_train: np.ndarray
    X_test: Any
    y_test: np.ndarray


class Folds:
    """The data and their splits; `digest` is of samples, their order, labels and splits."""

    def __init__(self, X: Any, y: Any, cv: Any, validation_data: Any):
        self.X, self.y = X, _labels(X, y, "X")
        self.held_out: tuple[Any, np.ndarray] | None = None
        parts = [_content(X), _texts(self.y)]
        if validation_data is None:
            self.splits = _splits(self.y, cv)
            parts.append(
                digest_of([[train.tolist(), test.tolist()] for train, test in self.splits])
            )
        else:
            self.held_out = _pair(validation_data)
            parts += [_content(self.held_out[0]), _texts(self.held_out[1])]
        self.digest = digest_of(parts)

    def __len__(self) -> int:
        return 1 if self.held_out is not None else len(self.splits)

    def sizes(self, number: int) -> tuple[int, int]:
        """Return the sizes of the training set and the test set of a fold."""
        if self.held_out is not None:
            return len(self.y), len(self.held_out[1])
        train, test = self.splits[number]
        return len(train), len(test)

    def fold(self, number: int) -> Fold:
        """Return the samples of one fold."""
        if self.held_out is not None:
            return Fold(self.X, self.y, *self.held_out)
        train, test = self.splits[number]
        return Fold(taken(self.X, train), self.y[train], taken(self.X, test), self.y[test])


def taken(X: Any, positions: np.ndarray) -> Any:
    """Return the samples at these positions; X is an array, a data frame or a list."""
    if hasattr(X, "iloc"):
        return X.iloc[positions]
    return [X[i] for i in positions] if isinstance(X, list | tuple) else X[positions]


def _labels(X: Any, y: Any, name: str) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (n_samples_of(X),):
        raise InvalidParameterError(
            f"y must hold one label for each of the {n_samples_of(X)} samples of {name}. "
            f"Got shape {labels.shape} instead."
        )
    return labels


def _pair(validation_data: Any) -> tuple[Any, np.ndarray]:
    if not isinstance(validation_data, list | tuple) or len(validation_data) != 2:
        raise InvalidParameterError(
            "validation_data must be a pair (X, y) or None. "
            f"Got {type(validation_data).__name__} instead."
        )
    X, y = validation_data
    return X, _labels(X, y, "validation_data")


def _splits(y: np.ndarray, cv: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        if not 2 <= cv <= len(y):
            raise InvalidParameterError(
                f"cv must be from 2 to the {len(y)} samples there are. Got {cv} instead."
            )
        cv = StratifiedKFold(int(cv), shuffle=True, random_state=SEED)
    is_list = isinstance(cv, list | tuple)
    if not is_list and not hasattr(cv, "split"):
        raise InvalidParameterError(
            "cv must be a number of folds, a splitter of scikit-learn or a list of (train, test). "
            f"Got {type(cv).__name__} instead."
        )
    splitter = check_cv(cv, y, classifier=True)
    splits = _drawn(splitter, y)
    if not all(map(_are_equal, splits, _drawn(splitter, y))):
        raise InvalidParameterError(
            f"cv draws other folds each time it is asked, so that runs could neither be compared "
            f"nor resumed. Expected the same: give {type(cv).__name__} a random_state."
        )
    for number, split in enumerate(splits):
        _check_split(number, split, len(y))
    if not splits:
        raise InvalidParameterError("cv must have at least one fold. Got none.")
    return splits


def _drawn(splitter: Any, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    folds = splitter.split(np.zeros((len(y), 1)), y)
    return [(_positions(train), _positions(test)) for train, test in folds]


def _positions(indices: Any) -> np.ndarray:
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "biu"):
        raise InvalidParameterError(
            "folds of cv must be positions, or marks of True and False. "
            f"Got {array.dtype} of shape {array.shape} instead."
        )
    return np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64)


def _are_equal(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _check_split(number: int, split: tuple[np.ndarray, np.ndarray], total: int) -> None:
    train, test = split
    together = np.concatenate(split)
    if len(train) == 0 or len(test) == 0:
        problem = "got an empty part"
    elif together.min() < 0 or together.max() >= total:
        problem = f"got positions from {together.min()} to {together.max()}"
    elif len(np.intersect1d(train, test)):
        problem = f"got samples in both parts: {np.intersect1d(train, test)[:5].tolist()} ..."
    else:
        return
    raise InvalidParameterError(
        f"fold {number} of cv must be two parts without common samples, positions from 0 to "
        f"{total - 1}; {problem}."
    )


def _texts(labels: np.ndarray) -> str:
    return digest_of([f"{type(label).__name__} {label}" for label in labels.tolist()])


def _content(X: Any) -> str:
    """Return the SHA-256 of the samples in order: contents of images, or values of a table."""
    columns = digest_of(list(map(str, getattr(X, "columns", []))))
    array = X if isinstance(X, list | tuple) else np.asarray(X)
    if isinstance(array, np.ndarray) and array.dtype.kind in "biufc" and array.ndim:
        digests = [pixels_digest(array)]
    elif _are_images(array):
        digests = content_digests(check_images(X))
    else:
        digests = [joblib.hash(X).encode()]
    return hashlib.sha256(columns.encode() + b"".join(digests)).hexdigest()


def _are_images(items: Sequence[Any] | np.ndarray) -> bool:
    if isinstance(items, np.ndarray):
        items = items.ravel().tolist() if items.ndim and items.dtype != object else items.ravel()
    return any(_is_image(item) for item in items)


def _is_image(item: Any) -> bool:
    if isinstance(item, str | os.PathLike):
        return os.path.isfile(item)
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray) and item.ndim > 1)
