"""The exceptions of transferclf, each also the built-in type that a caller would catch.

::

    TransferclfError
    ├── ImageError (ValueError)              something is wrong with the pixels of X
    │   └── ImageReadError (OSError)         files that cannot be read or decoded
    │       └── MissingImageError (FileNotFoundError)    ... because none of them is there
    ├── InvalidParameterError (ValueError)   a parameter has a value it cannot have
    │   ├── UnknownBackboneError             ... there is no backbone of that name
    │   └── UnavailableMethodError (AttributeError)  ... with which there is no such method
    ├── WeightsError (OSError)               pretrained weights cannot be had or are damaged
    ├── NetworkError (ValueError)            a Keras graph cannot be used as asked
    ├── DivergenceError (FloatingPointError) training ended in numbers that are not finite
    ├── ArchiveError (ValueError)            a saved model is damaged, foreign or not to be trusted
    └── ForkedProcessError (RuntimeError)    this process was forked from one that ran a network

    TransferclfWarning (UserWarning)         the result is right, but perhaps not what was meant
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Sequence

from transferclf._printing import printable

__all__ = [
    "ArchiveError",
    "DivergenceError",
    "ForkedProcessError",
    "ImageError",
    "ImageReadError",
    "InvalidParameterError",
    "MissingImageError",
    "NetworkError",
    "TransferclfError",
    "TransferclfWarning",
    "UnavailableMethodError",
    "UnknownBackboneError",
    "WeightsError",
]


class TransferclfError(Exception):
    """Base class of all errors that transferclf raises on purpose."""

    def __str__(self) -> str:
        # A name of a file in it may have characters that cannot be printed.
        return printable(super().__str__())


class ImageError(TransferclfError, ValueError):
    """The images of X cannot be used: shape, channels, values or kind.

    Attributes
    ----------
    indices : sequence of int
        Positions in X of all images at fault, rising; empty where X as a whole is at fault. Of
        :func:`transferclf.load_image_table`: positions of the rows, from 0 on.
    problems : sequence of str
        What is wrong with each of these images, while the message names the first few.
    """

    indices: Sequence[int] = ()
    problems: Sequence[str] = ()


class ImageReadError(ImageError, OSError):
    """Image files are missing, unreadable or damaged; `indices` are their positions."""


class MissingImageError(ImageReadError, FileNotFoundError):
    """Image files are missing, and that is all that is wrong."""


class InvalidParameterError(TransferclfError, ValueError):
    """A parameter has a value it cannot have; the message says which values it can have."""


class UnknownBackboneError(InvalidParameterError):
    """No backbone is registered under this name; the message names the nearest."""


class UnavailableMethodError(InvalidParameterError, AttributeError):
    """An estimator with these parameters lacks a method, as `hasattr` says too."""


class WeightsError(TransferclfError, OSError):
    """Pretrained weights cannot be found, downloaded or trusted."""


class NetworkError(TransferclfError, ValueError):
    """A Keras model cannot be used as asked: its inputs, its layers or the cut."""


class DivergenceError(TransferclfError, FloatingPointError):
    """Training ended in a loss or in scores that are not finite; the message names the rate."""


class ArchiveError(TransferclfError, ValueError):
    """A file is no archive of this package, is damaged, or holds what no archive can hold."""


class ForkedProcessError(TransferclfError, RuntimeError):
    """A network was to run in a child that was forked after its parent had run one."""


class TransferclfWarning(UserWarning):
    """The result is right as documented, but perhaps not what was meant."""


def warn(message: str, category: type[Warning] = TransferclfWarning) -> None:
    """Issue a warning that points at the caller's line, not at one of this package."""
    package = os.path.dirname(__file__)
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
