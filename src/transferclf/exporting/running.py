"""Read and run exported files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transferclf._quiet import conversion
from transferclf.exceptions import InvalidParameterError
from transferclf.exporting.registry import format_of
from transferclf.images import check_images
from transferclf.images.loading import load_parts

if TYPE_CHECKING:
    from transferclf.exporting.facts import Facts
    from transferclf.exporting.formats import Run

# Files of these formats are programs, which may do anything when they are loaded.
UNSAFE = {
    "keras": "keras.saving.load_model",
    "saved_model": "tensorflow.saved_model.load",
}


def read_exported(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
) -> Facts:
    """Return the facts in an exported file: names of the classes, size of images and others.

    Parameters
    ----------
    path : str or path-like
        A file that `export` wrote in the format ONNX, OpenVINO or LiteRT.
    format : str, default=None
        The format, if the suffix does not say it; as in `export`.

    Returns
    -------
    Facts
        With the attributes `task` ("classes", "labels", "numbers" or "features"), `names` of the
        outputs, `size`, `resize`, `takes_any_size`, `pixels`, `backbone`, `version`, `digest` and
        `quantize`.

    Raises
    ------
    ArchiveError
        If this is no file that `export` wrote.
    InvalidParameterError
        If the format is unknown, or its files are programs (SavedModel and Keras).
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    See :func:`export`.
    """
    return _opened(path, format)[0]


def predict_exported(
    path: str | os.PathLike[str],
    X: object,
    *,
    format: str | None = None,  # noqa: A002
) -> np.ndarray:
    """Run an exported file on images, by the runtime of its format.

    Parameters
    ----------
    path : str or path-like
        A file that `export` wrote in the format ONNX, OpenVINO or LiteRT.
    X : array-like or sequence of images, n of them
        Of any kind that estimators take. They are resized as the facts in the file say.
    format : str, default=None
        The format, if the suffix does not say it; as in `export`.

    Returns
    -------
    ndarray of float32, shape (n, n_outputs)
        Probabilities, values or features, in the order of ``read_exported(path).names``.

    Raises
    ------
    ArchiveError
        If this is no file that `export` wrote.
    InvalidParameterError
        If the format is unknown, or its files are programs: load SavedModel folders and Keras files
        by their own libraries, if you trust them.
    ImageError
        If images cannot be used.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from transferclf import CNNFeatureExtractor, export, predict_exported
    >>> images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    >>> extractor = CNNFeatureExtractor(image_size=32).fit(images)
    >>> path = export(extractor, Path(tempfile.mkdtemp(), "features.xml"))
    >>> features = predict_exported(path, images)
    >>> bool(np.allclose(features, extractor.transform(images), atol=1e-3))
    True
    """
    facts, run = _opened(path, format)
    parts = [
        run(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        for _, pixels in load_parts(check_images(X), facts.size, facts.resize)
    ]
    return np.concatenate(parts)


def _opened(path: str | os.PathLike[str], name: str | None) -> tuple[Facts, Run]:
    chosen = format_of(path, name)
    if chosen.name in UNSAFE:
        raise InvalidParameterError(
            f"a file of the format {chosen.name!r} may run code when it is loaded. If you trust "
            f"it, load it by {UNSAFE[chosen.name]}."
        )
    chosen.check_installed()
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected an exported file, got {path}, where there is none")
    with conversion():
        return chosen.opened(Path(path))
