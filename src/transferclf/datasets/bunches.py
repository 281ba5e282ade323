"""Paths and names of classes as a Bunch, and warnings about the names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from sklearn.utils import Bunch

from transferclf._spelling import did_you_mean, in_nfc, look_alikes, quoted, shortened, told_apart
from transferclf.datasets.remote_paths import RemotePath
from transferclf.exceptions import InvalidParameterError
from transferclf.images import ImageSource
from transferclf.images.places.remote import is_url

# A folder or file: on a disk, or behind a URL.
Place = Path | RemotePath

# The number of known names that an error lists.
_LISTED = 50


def bunch(
    root: Place,
    files: Sequence[Place] | ImageSource,
    labels: Sequence[str],
    classes: Sequence[str] | None,
    groups: Sequence[str] | None = None,
) -> Bunch:
    """Return the result of the loaders. `classes` are the chosen ones, in that order, or None."""
    target = np.array(labels)
    found = np.unique(target).tolist()
    return Bunch(
        data=_data_of(files),
        target=target,
        target_names=found if classes is None else list(classes),
        filenames=_names_of(root, files),
        **({} if groups is None else {"groups": np.array(groups)}),
        DESCR=f"{len(files)} images of {len(found)} classes in {root}",
    )


def label_bunch(
    root: Place, files: Sequence[Place] | ImageSource, names: Sequence[str], target: np.ndarray
) -> Bunch:
    """Return the result of a table with several labels: `target` is 0 and 1, shape (n, k)."""
    return Bunch(
        data=_data_of(files),
        target=target,
        target_names=list(names),
        filenames=_names_of(root, files),
        DESCR=f"{len(files)} images with {len(names)} labels in {root}",
    )


def _data_of(files: Sequence[Place] | ImageSource) -> np.ndarray | ImageSource:
    if isinstance(files, ImageSource):
        return files
    return np.array([str(file) for file in files], dtype=object)


def _names_of(root: Place, files: Sequence[Place] | ImageSource) -> np.ndarray:
    if isinstance(files, ImageSource):
        return np.array([f"row {place}" for place in files.places], dtype=object)
    return np.array([within(root, file) for file in files], dtype=object)


def within(root: Place, file: Place) -> str:
    """Return a path relative to the root, with slashes, or the whole path if it is elsewhere."""
    return below(root, file).as_posix() if is_below(root, file) else file.as_posix()


def is_below(root: Place, file: Place) -> bool:
    """Whether a file is in the root or in a folder below it. One may be a URL."""
    if isinstance(file, RemotePath) or isinstance(root, RemotePath):
        return isinstance(file, RemotePath) and file.is_relative_to(root)
    return file.is_relative_to(root)


def below(root: Place, file: Place) -> PurePath:
    """Return the path of a file below the root, relative to it."""
    if isinstance(file, RemotePath):
        return file.relative_to(root)
    return file.relative_to(str(root))


def is_folder(place: Place) -> bool:
    """Whether this is a folder. Unlike Path, it never raises an error on a path that cannot be."""
    return place.is_dir() if isinstance(place, RemotePath) else os.path.isdir(place)


def exists(place: Place) -> bool:
    """Whether there is anything of this name."""
    return place.exists() if isinstance(place, RemotePath) else os.path.exists(place)


def given_path(name: str, path: object) -> Place:
    """Return the path in a parameter, with ``~`` replaced by the home folder, or the URL."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise InvalidParameterError(
            f"{name} must be a str or a Path. Got {type(path).__name__} instead."
        )
    if isinstance(path, str) and is_url(path):
        return RemotePath(path)
    return Path(path if os.path.lexists(path) else os.path.expanduser(path))


def several(value: object) -> list[object] | None:
    """Return the elements of a sequence; None for a text, a mapping or a single value."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return list(value)
    return None


def checked_classes(classes: object) -> list[str] | None:
    """Return the names in `classes` in Unicode NFC: at least one, all different."""
    if classes is None:
        return None
    given = several(classes)
    if not given or not all(isinstance(name, str) for name in given):
        raise InvalidParameterError(
            "classes must be a sequence of names of classes, at least one, such as ['cat', 'dog']. "
            f"Got {classes!r:.200} instead."
        )
    names = [in_nfc(str(name)) for name in given]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InvalidParameterError(
            f"classes must be different names. Got {quoted(repeated)} more than once."
        )
    return names


def check_known(classes: Sequence[str] | None, known: Iterable[str], place: str) -> None:
    """Raise InvalidParameterError, with near matches, if `place` has no such classes."""
    known = sorted(set(known))
    unknown = [name for name in classes or () if name not in known]
    if unknown:
        raise InvalidParameterError(
            f"classes must be among {place}: {quoted(known, _LISTED)}. "
            f"Got {quoted(unknown, _LISTED)} too.{did_you_mean(unknown, known)}"
        )


def remark_on_names(
    place: str, by_split: Mapping[str, Iterable[str]], classes: Sequence[str] | None
) -> str:
    """Name the classes that only some splits have, and names that look alike; "" without any.

    `by_split` has the classes of each split. Only the chosen `classes` are named, if there are any.
    """
    splits_of: dict[str, list[str]] = {name: [] for name in classes or ()}
    for split, names in by_split.items():
        for name in sorted(set(names)):
            splits_of.setdefault(name, []).append(split)
    asked = splits_of if classes is None else classes
    is_split = len(by_split) > 1
    partial = [it for it in sorted(asked) if is_split and len(splits_of[it]) < len(by_split)]
    alike = look_alikes(splits_of)
    if classes is not None:
        # A similar name matters only if a chosen class is missing, which may be meant by it.
        alike = [g for g in alike if set(g) & set(partial) and not set(g) <= set(classes)]
    remarks = [_on_partial(place, partial, splits_of, list(by_split))] if partial else []
    if alike:
        remarks.append(_on_look_alikes(place, alike, splits_of if is_split else {}))
    return ". ".join(remarks)


def _on_partial(
    place: str, names: Sequence[str], splits_of: Mapping[str, list[str]], splits: Sequence[str]
) -> str:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(splits_of[name]), []).append(name)
    texts = [
        f"{quoted(group)} in {_listed(there)}, not in {_listed(set(splits) - set(there))}"
        for there, group in groups.items()
    ]
    return f"the splits of {place} have different classes: {shortened(texts)}"


def _on_look_alikes(
    place: str, groups: Sequence[Sequence[str]], splits_of: Mapping[str, Sequence[str]]
) -> str:
    texts = []
    for group in groups:
        where = [f" ({_listed(splits_of[name])})" if splits_of else "" for name in group]
        texts.append(" and ".join(map("{}{}".format, told_apart(group), where)))
    return (
        f"classes of {place} with names that differ only in case, white space, invisible "
        f"characters or Unicode form are read as different classes: {shortened(texts)}; give them "
        "one name where one class is meant"
    )


def _listed(splits: Iterable[str]) -> str:
    return " and ".join(sorted(splits)) or "none"
