"""The folds that all runs share, and the digest of their data."""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.model_selection import KFold, StratifiedKFold, check_cv

from transferclf.exceptions import InvalidParameterError
from transferclf.images.deep import pixels_digest
from transferclf.images.inputs import check_images
from transferclf.images.loading import content_digests
from transferclf.reports.experiments.targets import checked_targets, taken, target_digest
from transferclf.reports.experiments.values import digest_of
from transferclf.reports.kinds import CLASSES, LABELS

SEED = 0  # deals the folds if `cv` is a number

Split = tuple[np.ndarray, np.ndarray]


class Fold(NamedTuple):
    """A training set and a test set, of the kinds that the caller gave."""

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


class Folds:
    """The data and their splits; `digest` is of samples, their order, labels and splits."""

    def __init__(self, X: Any, y: Any, cv: object, validation_data: Any, kind: str = CLASSES):
        self.X, self.y, self.kind = X, checked_targets(X, y, "X", kind), kind
        self.splits: list[Split] = []
        self.held_out: tuple[Any, Any] | None = None
        if validation_data is None:
            self.splits = _splits(self.y, cv, kind)
            parts = [digest_of([[train.tolist(), test.tolist()] for train, test in self.splits])]
        else:
            if not isinstance(validation_data, list | tuple) or len(validation_data) != 2:
                raise InvalidParameterError(
                    "validation_data must be a pair (X, y) or None. "
                    f"Got {type(validation_data).__name__} instead."
                )
            X_test, y_test = validation_data
            known = y if kind == LABELS else None
            y_test = checked_targets(X_test, y_test, "validation_data", kind, known)
            self.held_out = X_test, y_test
            parts = _digests(*self.held_out)
        self.digest = digest_of([*_digests(X, self.y), *parts])

    def __len__(self) -> int:
        return 1 if self.held_out is not None else len(self.splits)

    def fold(self, number: int) -> Fold:
        """Return the samples of one fold."""
        if self.held_out is not None:
            return Fold(self.X, self.y, *self.held_out)
        train, test = self.splits[number]
        return Fold(*(taken(items, part) for part in (train, test) for items in (self.X, self.y)))


def _splits(y: Any, cv: Any, kind: str) -> list[Split]:
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        if not 2 <= cv <= len(y):
            raise InvalidParameterError(
                f"cv must be from 2 to the {len(y)} samples there are. Got {cv} instead."
            )
        deal = StratifiedKFold if kind == CLASSES else KFold
        cv = deal(int(cv), shuffle=True, random_state=SEED)
    if not isinstance(cv, list | tuple) and not hasattr(cv, "split"):
        raise InvalidParameterError(
            "cv must be a number of folds, a splitter of scikit-learn or a list of (train, test). "
            f"Got {type(cv).__name__} instead."
        )
    splitter = check_cv(cv, y, classifier=kind == CLASSES)
    X = np.zeros((len(y), 1))  # a splitter has no use for pixels
    splits, again = (
        [(_positions(train), _positions(test)) for train, test in splitter.split(X, y)]
        for _ in range(2)
    )
    for number, (split, other) in enumerate(zip(splits, again, strict=False)):
        if not all(map(np.array_equal, split, other)):
            raise InvalidParameterError(
                "cv draws other folds each time it is asked, so that runs could neither be "
                "compared nor resumed. Expected the same: give "
                f"{type(cv).__name__} a random_state."
            )
        _check_split(number, *split, len(y))
    if not splits:
        raise InvalidParameterError("cv must have at least one fold. Got none.")
    return splits


def _positions(indices: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "biu"):
        raise InvalidParameterError(
            "folds of cv must be positions, or marks of True and False. "
            f"Got {array.dtype} of shape {array.shape} instead."
        )
    return np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64)


def _check_split(number: int, train: np.ndarray, test: np.ndarray, total: int) -> None:
    both, together = np.intersect1d(train, test), np.concatenate([train, test])
    if len(train) == 0 or len(test) == 0:
        problem = "got an empty part"
    elif together.min() < 0 or together.max() >= total:
        problem = f"got positions from {together.min()} to {together.max()}"
    elif len(both):
        problem = f"got samples in both parts: {both[:5].tolist()} ..."
    else:
        return
    raise InvalidParameterError(
        f"fold {number} of cv must be two parts without common samples, positions from 0 to "
        f"{total - 1}; {problem}."
    )


def _digests(X: Any, y: Any) -> list[str]:
    """Return the SHA-256 of samples, by the contents of images or values, and of labels."""
    columns = digest_of(list(map(str, getattr(X, "columns", []))))
    array = X if isinstance(X, list | tuple) else np.asarray(X)
    if isinstance(array, np.ndarray) and array.dtype.kind in "biufc" and array.ndim:
        digests = [pixels_digest(array)]
    elif any(map(_is_image, array.ravel() if isinstance(array, np.ndarray) else array)):
        digests = content_digests(check_images(X))
    else:
        digests = [joblib.hash(X).encode()]
    samples = hashlib.sha256(columns.encode() + b"".join(digests)).hexdigest()
    return [samples, target_digest(y)]


def _is_image(item: object) -> bool:
    if isinstance(item, str | os.PathLike):
        return os.path.isfile(item)
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray) and item.ndim > 1)
