"""Class folders as paths and labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from sklearn.utils import Bunch

from transferclf._checks import check_flag
from transferclf._spelling import did_you_mean, in_nfc, look
from transferclf.datasets.bunches import (
    Place,
    bunch,
    check_known,
    checked_classes,
    exists,
    given_path,
    is_folder,
    remark_on_names,
    several,
    within,
)
from transferclf.datasets.trees import ImageTree, LabelledImage, subfolders
from transferclf.datasets.verifying import check_verification, readable
from transferclf.exceptions import ImageError, InvalidParameterError, warn

SPLITS = ("train", "training", "valid", "validation", "val", "test", "testing")


def load_image_folder(
    path: str | os.PathLike,
    *,
    split: str | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    recursive: bool = False,
    verify: bool = False,
    on_error: str = "raise",
) -> Bunch:
    """Read the paths of images in class folders, and the names of their classes.

    The layout is ``CLASS/IMAGE``, or ``SPLIT/CLASS/IMAGE`` where the folder contains splits (train,
    training, valid, validation, val, test, testing). With ``recursive=True``, images in deeper
    folders are read too, as in ``CLASS/SESSION/IMAGE``.

    Parameters
    ----------
    path : str or Path
        The folder; ``~`` is the home folder. Or a URL that fsspec can list, such as
        ``"s3://bucket/photos"`` (the extra ``remote``).
    split : str, sequence of str or None, default=None
        The folder or folders of a split layout to read. Other names than those above are allowed.
    classes : sequence of str or None, default=None
        The names of the classes to read, and `target_names` in this order. Other folders are left
        out without a warning. None reads all.
    recursive : bool, default=False
        Whether to read folders below the class folders, at any depth. Links are followed, and each
        folder is read once for a class.
    verify : bool, default=False
        Whether to decode every image once, so that images that cannot be used are found now.
    on_error : {"raise", "skip"}, default="raise"
        With `verify=True`, "raise" names all such images in one error, and "skip" leaves them out,
        with one warning.

    Returns
    -------
    Bunch
        `data` : ndarray of str objects, shape (n,)
            The paths or URLs, in natural order: img2 before img10.
        `target` : ndarray of str, shape (n,)
            The name of the class of each image.
        `target_names` : list of str
            The names in `target`, sorted by :func:`numpy.unique`: the `classes_` of a classifier
            that is fitted to `data` and `target`. With `classes`, these.
        `filenames` : ndarray of str objects, shape (n,)
            The paths within the folder.
        `groups` : ndarray of str, shape (n,)
            Only with ``recursive=True``: the first folder below the class, so that ``GroupKFold``
            keeps the images of one session together. Sessions of the same name in two classes are
            one session. An image directly in its class folder is a group of its own, named by its
            path within the folder.
        `skipped_filenames` : ndarray of str objects
            Only with ``verify=True``: the paths within the folder of images that were left out.
        `DESCR` : str
            A line about the images.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    InvalidParameterError
        If the folder has splits and `split` is None, has no such split, or no such `classes`.
    ImageError
        If there are no images, or with `verify=True` some cannot be used, or all of a class with
        `on_error="skip"`; `indices` are then positions among all images. Both are ValueErrors.
    ImageReadError
        If a URL cannot be listed: its package is missing, there is no permission or no answer.

    Warns
    -----
    TransferclfWarning
        If files and folders are left out: unknown extensions, broken links, folders without images,
        images in other places than the layout says. Another warning names classes that only some
        splits have, and classes whose names differ only in case, white space, invisible characters
        or Unicode form. With `on_error="skip"`, another names the images that cannot be used.

    Notes
    -----
    Names are in Unicode NFC: folders whose names are equal in it are one class. Hidden folders and
    folders that systems make, such as ``__MACOSX`` and ``@eaDir``, are no classes and no splits.

    The columns of `predict_proba` are in the order of `classes_`. `target_names` may differ, for
    instance where a test split lacks a class.

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from transferclf import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("tulip", "daisy"):
    ...         os.makedirs(f"{folder}/{name}/monday")
    ...         Image.new("RGB", (8, 8)).save(f"{folder}/{name}/monday/1.png")
    ...     photos = load_image_folder(folder, recursive=True)
    >>> photos.target
    array(['daisy', 'tulip'], dtype='<U5')
    >>> photos.groups
    array(['monday', 'monday'], dtype='<U6')
    >>> photos.filenames.tolist()
    ['daisy/monday/1.png', 'tulip/monday/1.png']
    """
    wanted = checked_classes(classes)
    check_flag("recursive", recursive)
    check_verification(verify, on_error)
    root = given_path("path", path)
    if not is_folder(root) or not os.fspath(path):
        kind = NotADirectoryError if exists(root) and path else FileNotFoundError
        raise kind(f"expected a folder of class folders, got {os.fspath(path)!r}")
    tree = ImageTree(root, bool(recursive))
    folders = _folders_of_classes(root, split, wanted if recursive else None)
    if wanted is not None:
        known = _names_in(folders if split is None else _splits(root))
        check_known(wanted, known, f"the class folders of {str(root)!r}")
    images = tree.read(folders, wanted)
    if not images:
        near = did_you_mean(wanted or [], _names_in(folders))
        raise ImageError(tree.nothing_found(wanted) + near)
    names = {"": {image.label for image in images}}
    if split is not None:
        names = _classes_by_split(tree, folders, images)
    remarks = [tree.remark(), tree.remark_on_nested()]
    for text in filter(None, [*remarks, remark_on_names(repr(str(root)), names, wanted)]):
        warn(text)
    skipped: list[LabelledImage] = []
    if verify:
        images, skipped = readable(images, on_error)
    files, labels, groups = zip(*images, strict=True)
    result = bunch(root, files, labels, wanted, groups if recursive else None)
    if verify:
        names_of_skipped = [within(root, image.file) for image in skipped]
        result["skipped_filenames"] = np.array(names_of_skipped, dtype=object)
    return result


def _splits(root: Place) -> list[Place]:
    """Return the folders that contain folders, and therefore may be splits."""
    return [folder for folder in subfolders(root) if subfolders(folder)]


def _folders_of_classes(root: Place, split: object, classes: Sequence[str] | None) -> list[Place]:
    """Return the folders whose subfolders are the classes.

    Folders with the names of splits are classes with sessions if `classes` names them.
    """
    splits = _splits(root)
    if split is not None:
        return _asked_splits(root, splits, split)
    names = [_name(folder) for folder in splits]
    usual = [name for name in names if name.lower() in SPLITS]
    are_classes = classes is not None and {*classes} <= {*_names_in([root])}
    if usual and not are_classes:
        raise InvalidParameterError(
            f"{str(root)!r} holds the splits {names}: say which with split=, for instance "
            f"split={usual[0]!r}. If they are classes with folders below, read them with "
            "recursive=True and name them in classes=."
        )
    return [root]


def _asked_splits(root: Place, splits: Sequence[Place], split: object) -> list[Place]:
    if not splits:
        raise InvalidParameterError(
            f"{str(root)!r} has no splits, as split={split!r} would have it: its folders hold "
            "images and no class folders. Leave split out."
        )
    given = [split] if isinstance(split, str) else several(split) or []
    names = [_name(folder) for folder in splits]
    wanted = [in_nfc(str(name)) for name in given if isinstance(name, str)]
    unknown = [name for name in wanted if name not in names]
    if unknown or not given or len(set(wanted)) < len(given):
        raise InvalidParameterError(
            f"split must be among {names} for {str(root)!r}, each once. Got {split!r} instead."
            f"{did_you_mean(unknown, names)}"
        )
    return [folder for name in wanted for folder in splits if _name(folder) == name]


def _names_in(parents: Sequence[Place]) -> list[str]:
    return [_name(folder) for parent in parents for folder in subfolders(parent)]


def _name(folder: Place) -> str:
    return in_nfc(folder.name)


def _classes_by_split(
    tree: ImageTree, folders: Sequence[Place], images: Sequence[LabelledImage]
) -> dict[str, set[str]]:
    """Return the classes with images in each split, also in splits that are not read.

    These are folders with a usual name, or with a class in common.
    """
    looks = {look(image.label) for image in images}
    found: dict[str, set[str]] = {}
    for folder in _splits(tree.root):
        names = {_name(sub) for sub in subfolders(folder) if tree.holds_images(sub, folder)}
        is_split = folder in folders or folder.name.lower() in SPLITS
        if is_split or looks & {look(name) for name in names}:
            found.setdefault(in_nfc(folder.name), set()).update(names)
    return found
