"""The import of Keras, and conversions of networks, without the remarks that TensorFlow prints.

TensorFlow's C++ code writes remarks to the file descriptor 2 while it is imported and while it
looks for a GPU. One of them is an error, in red, on machines without a GPU. Its converters name
their steps. All other lines that are written meanwhile are kept. Nothing is hidden if the user has
set TF_CPP_MIN_LOG_LEVEL, TensorFlow's own variable for such lines: with 0, all of them are shown.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO

VARIABLE = "TF_CPP_MIN_LOG_LEVEL"

# Each is one line. The first words of a line are its level, the time and the place in the code.
_START = re.compile(
    b"|".join(
        [
            rb"^WARNING: All log messages before absl::InitializeLog\(\)",
            rb"\] oneDNN custom operations are on\.",
            rb"\] Could not find cuda drivers on your machine",
            rb"\] This TensorFlow binary is optimized to use available CPU instructions",
            rb"^To enable the following instructions: ",
            rb"\] Unable to register cu\w+ factory: .* already been registered",
            rb"\] computation placer already registered",
            rb"\] TF-TRT Warning: Could not find TensorRT",
            # No driver, or a driver without a GPU. Other errors of cuInit are worth knowing.
            rb"\] failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)",
        ]
    )
)

# Remarks and warnings of converters. Their files are compared with the estimator afterwards.
_CONVERSION = re.compile(
    rb"^[IW]\d{4} \d\d:\d\d[^ ]* +\d+ \w+\.cc:\d+\] |^INFO: Created TensorFlow Lite "
)

_lock = threading.RLock()
_devices_are_known = False


def import_keras() -> None:
    """Import Keras, and with it TensorFlow, without the lines of their start."""
    if "keras" in sys.modules:
        return
    with _quiet(_START):
        import keras  # noqa: F401


def find_devices() -> None:
    """Let TensorFlow look for a GPU now, where its remarks can be hidden, if Keras runs on it."""
    global _devices_are_known
    tensorflow = sys.modules.get("tensorflow")
    if _devices_are_known or tensorflow is None or VARIABLE in os.environ:
        return
    with _quiet(_START):
        tensorflow.config.list_physical_devices()
    _devices_are_known = True


def conversion() -> AbstractContextManager[None]:
    """Return a context in which converters and their runtimes print no remarks."""
    return _quiet(_CONVERSION)


@contextmanager
def _quiet(noise: re.Pattern[bytes]) -> Iterator[None]:
    """Hold back the output of the file descriptor 2, and write all but the noise at the end."""
    if VARIABLE in os.environ:
        yield
        return
    with _lock:
        held = _hold_back()
        try:
            yield
        finally:
            if held is not None:
                _give_back(*held, noise)


def _hold_back() -> tuple[int, IO[bytes]] | None:
    """Return a copy of the descriptor and the file in its place; None if that is impossible."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the output is given back
    except OSError:  # no folder for temporary files
        return None
    _flush()
    try:
        before = os.dup(2)
    except OSError:  # the standard error is closed
        file.close()
        return None
    os.dup2(file.fileno(), 2)
    return before, file


def _give_back(before: int, file: IO[bytes], noise: re.Pattern[bytes]) -> None:
    _flush()
    os.dup2(before, 2)
    os.close(before)
    with file:
        file.seek(0)
        kept = [line for line in file if not noise.search(line)]
    with suppress(OSError), open(2, "wb", closefd=False) as stream:
        stream.writelines(kept)


def _flush() -> None:
    with suppress(Exception):
        sys.stderr.flush()
