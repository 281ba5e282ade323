"""The formats of exported files. Each is a subclass of Format in a module of its own."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.exceptions import InvalidParameterError, NetworkError, how_to_install

if TYPE_CHECKING:
    import keras

    from transferclf.exporting.facts import Facts

# With "float16" smaller constants keep 32 bits: the first and the depthwise convolutions, which
# need them most. On MobileNetV2 the largest difference of a probability is 0.003 instead of 0.044.
LEAST_VALUES = 16384

# Takes uint8 images (n, h, w, 3), and returns float32 outputs (n, n_outputs).
Run = Callable[[np.ndarray], np.ndarray]


class Format(ABC):
    """A format that fitted estimators are exported to.

    Attributes
    ----------
    name : str
        Name of the format.
    suffixes : tuple of str
        Endings of file names by which the format is known; "" is a name without an ending.
    packages : tuple of str
        Modules that are needed to write the format and to read it.
    extra : str
        The extra of this package that installs them; "" if they are dependencies.
    quantizations : tuple of str
        Values of `quantize` that the format has, other than None.
    takes_any_size : bool
        Whether the file can resize images itself.
    backends : tuple of str
        The backends of Keras on which the format can be written; () is all.
    is_final : bool
        Whether files of the format are for inference only, and not trained any more.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    quantizations: ClassVar[tuple[str, ...]] = ()
    takes_any_size: ClassVar[bool] = True
    backends: ClassVar[tuple[str, ...]] = ("tensorflow",)
    is_final: ClassVar[bool] = True

    def check_installed(self) -> None:
        """Raise InvalidParameterError if a package of the format is missing."""
        missing = [name for name in self.packages if not is_installed(name)]
        if missing:
            raise InvalidParameterError(
                f"the format {self.name!r} needs {', '.join(missing)}, which is not installed. "
                + how_to_install(self.extra, missing)
            )

    def check_backend(self) -> None:
        """Raise NetworkError if Keras runs on another backend than the converter needs."""
        import keras

        backend = keras.backend.backend()
        if self.backends and backend not in self.backends:
            raise NetworkError(
                f"the format {self.name!r} is written by Keras on {' or '.join(self.backends)}. "
                f"Got KERAS_BACKEND={backend!r}: save_model here, load_model there, and export; or "
                "export a .keras file."
            )

    def check_quantization(self, quantize: str | None) -> None:
        """Raise InvalidParameterError if the format cannot be quantized in this way."""
        if quantize not in (None, *self.quantizations):
            known = ", ".join(map(repr, (None, *self.quantizations)))
            raise InvalidParameterError(
                f"quantize must be one of {known} for the format {self.name!r}. Got {quantize!r} "
                "instead."
            )

    def beside(self, path: Path) -> list[Path]:
        """Return the paths of all files of an export, the one of the given name last."""
        return [path]

    def check_beside(self, path: Path, facts: Facts) -> None:
        """Raise FileExistsError if a file beside the export would lose its contents."""
        return

    @abstractmethod
    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write a graph from uint8 images to results, with its facts, in an empty folder.

        `images` are uint8 images (n, h, w, 3) that show the range of the activations, or None.
        """

    @abstractmethod
    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a file, and a function that runs it.

        ArchiveError is raised if it is no file of the format, or has no facts.
        """


def is_installed(module: str) -> bool:
    """Return whether a module could be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False
