"""The error about a single image, or a folder, where a sequence of images is expected."""

from __future__ import annotations

import os
import reprlib
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError
from transferclf.images.places import dicts
from transferclf.images.places.remote import is_url

_EXPECTED = "X must be a sequence of images."


def refuse_single_image(X: Any) -> None:
    """Raise ImageError if X is one image of any kind but an array of pixels, or a folder."""
    if isinstance(X, np.ndarray) and X.ndim == 0:
        X = X.item()
    if isinstance(X, str | os.PathLike):
        raise ImageError(f"{_EXPECTED} {_about_path(X)}")
    if _is_file(X):
        raise ImageError(f"{_EXPECTED} Got one open file: pass its bytes in a list, [file.read()].")
    if _is_one_image(X):
        raise ImageError(f"{_EXPECTED} Got one {_name_of(X)}: pass it in a list, [image].")


def _about_path(path: str | os.PathLike) -> str:
    text = os.fsdecode(path)
    if os.path.isdir(text):
        return f"Got the folder {text!r}: transferclf.load_image_folder reads a folder."
    got = f"Got one {type(path).__name__}, {reprlib.repr(text)}: pass it in a list, [image]."
    has_extension = is_url(text) or PurePath(text).suffix
    return got if has_extension else f"{got} transferclf.load_image_folder reads a folder."


def _is_file(X: Any) -> bool:
    # Arrays that are read lazily may have the method too.
    return callable(getattr(X, "read", None)) and not hasattr(X, "shape")


def _is_one_image(X: Any) -> bool:
    if isinstance(X, dict):
        return any(key in X for key in dicts.KEYS)
    is_bytes = isinstance(X, memoryview) and X.ndim == 1
    return is_bytes or isinstance(X, bytes | bytearray | Image.Image)


def _name_of(X: Any) -> str:
    if isinstance(X, Image.Image):
        return f"Image of PIL, {X.width} x {X.height} pixels"
    return type(X).__name__
