"""Checks of class labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeGuard

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from transferclf._spelling import did_you_mean, known_by_look, shortened, told_apart
from transferclf.exceptions import ImageError


def encode_targets(y: object, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Check class labels, and return the sorted classes and the index of each label among them."""
    labels = _labels(y, n_samples)
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "A classifier needs images of at least two classes. Got one class: "
            f"{classes.tolist()[0]!r}."
        )
    return classes, indices


def known_targets(y: object, n_samples: int, classes: np.ndarray) -> np.ndarray:
    """Return the indices of labels among sorted classes; raise ValueError for others."""
    labels = _labels(y, n_samples)
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise ValueError(
            f"y must have labels of the known classes, {classes.tolist()}. Got {unknown} too."
            + did_you_mean(unknown, classes.tolist(), only_look_alikes=True)
        )
    return np.searchsorted(classes, labels)


def look_alike_remark(y: object, classes: np.ndarray) -> str:
    """Return a warning about labels that are not among the classes but look like one; else ""."""
    # A test set may have one more class on purpose. Most often these labels are a known class that
    # is written in another way.
    known = classes.tolist()
    unknown = sorted(set(np.ravel(np.asarray(y)).tolist()) - set(known), key=str)
    pairs = [told_apart(pair) for pair in known_by_look(unknown, known).items()]
    if not pairs:
        return ""
    examples = shortened([f"{label} like {alike}" for label, alike in pairs])
    return (
        f"y has labels that are never predicted, but look like a class that is: {examples}; where "
        "one class is meant, write it in one way, since these images all count as wrong"
    )


def first_classes(classes: object) -> np.ndarray:
    """Return the sorted `classes` that are passed to the first call of `partial_fit`."""
    if classes is None:
        raise ValueError("classes must be passed to the first call of partial_fit.")
    labels = column_or_1d(classes)
    _refuse_missing_and_mixed(labels)
    known = np.unique(labels)
    if len(known) < 2:
        raise ValueError(f"classes must be at least two. Got {known.tolist()}.")
    return known


def _labels(y: object, n_samples: int) -> np.ndarray:
    """Return y as an array; raise ValueError unless it is one class label for each image."""
    if y is None:
        raise ValueError("TransferClassifier requires y to be passed, but the target y is None.")
    _refuse_several(y)
    labels: np.ndarray = column_or_1d(y, warn=True)
    if len(labels) != n_samples:
        raise ValueError(
            f"X and y must have one label per image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {len(labels)} labels."
        )
    _refuse_missing_and_mixed(labels)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y must hold class labels. Got infinite numbers.")
    check_classification_targets(labels)
    return labels


def _refuse_several(y: object) -> None:
    """Raise ValueError if y has several labels for one image."""
    expected = "y must be one label for each image, of shape (n,)."
    dense = y.toarray() if hasattr(y, "toarray") else y
    shape = getattr(dense, "shape", None)
    several = first_collection(dense) if shape is None or len(shape) == 1 else None
    is_table = shape is not None and len(shape) == 2 and shape[1] > 1
    if not is_table and several is None:
        return
    if _is_one_hot(dense):
        raise ValueError(
            f"{expected} Got a table that is one-hot, with a single 1 for each image: pass "
            f"{argmax_of(y)}, or the names of the classes at these positions."
        )
    got = f"Got shape {shape}"
    if several is not None:
        got = f"Got {several[1]!r:.80} at index {several[0]}"
    raise ValueError(f"{expected} {got}: several labels for one image, where fit had one.")


def first_collection(labels: Any) -> tuple[int, object] | None:
    """Return index and value of the first label that is several; lists of one are a column."""
    is_array = isinstance(labels, np.ndarray) and labels.dtype != object
    if is_array or isinstance(labels, str | Mapping) or not hasattr(labels, "__len__"):
        return None
    for index, label in enumerate(labels):
        if isinstance(label, Set | Mapping) or (_is_list(label) and len(label) != 1):
            return index, label
    return None


def _is_list(label: Any) -> TypeGuard[Sequence[object]]:
    """Return whether a label is a list, tuple, array or series of labels."""
    shape = getattr(label, "shape", None)
    return isinstance(label, list | tuple) or (shape is not None and len(shape) > 0)


def _is_one_hot(y: object) -> bool:
    try:
        table = np.asarray(y, dtype=float)
    except (TypeError, ValueError):  # texts, sets or rows of different lengths
        return False
    is_binary = table.ndim == 2 and np.isin(table, (0, 1)).all()
    return bool(is_binary and (table.sum(axis=1) == 1).all())


def argmax_of(y: object) -> str:
    """Return the code that turns a one-hot table of this type into labels."""
    if hasattr(y, "toarray"):
        return "y.toarray().argmax(axis=1)"
    if hasattr(y, "idxmax"):
        return "y.idxmax(axis=1)"
    return "y.argmax(axis=1)" if hasattr(y, "argmax") else "numpy.argmax(y, axis=1)"


def _refuse_missing_and_mixed(labels: np.ndarray) -> None:
    can_miss = labels.dtype.kind in "fmMO"
    missing = [index for index, label in enumerate(labels) if can_miss and is_missing(label)]
    if missing:
        raise ValueError(
            f"y has no label for {len(missing)} of {len(labels)} images (NaN or None), the first "
            f"at index {missing[0]}. Label them or leave these images out."
        )
    kinds = {"a text" if isinstance(label, str) else "a number" for label in labels.tolist()}
    if labels.dtype == object and len(kinds) > 1:
        raise ValueError("y must have labels of one type. Got both texts and numbers.")


def is_missing(label: object) -> bool:
    """Return whether a label is None or differs from itself, as NaN, NaT and NA do."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # comparing pandas.NA has no truth value
        return True


def check_apart(X: object, y: object) -> None:
    """Raise ImageError if X is images and labels in one, or a folder: pass them apart."""
    if isinstance(X, Mapping) and "target" in X:
        images = next((name for name in ("images", "data") if name in X), "data")
        raise ImageError(
            f"X must be images and y their labels. Got a {type(X).__name__} with both: pass "
            f"bunch.{images} and bunch.target."
        )
    if isinstance(X, str | os.PathLike) and os.path.isdir(X):
        raise ImageError(
            f"X must be images and y their labels. Got the folder {os.fspath(X)!r}: if it has a "
            "folder of images for each class, bunch = transferclf.load_image_folder(folder) reads "
            "it; then pass bunch.data and bunch.target."
        )
    if y is None and isinstance(X, tuple) and len(X) == 2:
        raise ImageError(
            "X must be images and y their labels. Got one tuple of two: pass its parts, as in "
            "fit(*pair)."
        )
