"""Export fitted estimators: write a file, read it back by its own runtime, and compare."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf import _quiet
from transferclf._checks import check_choice
from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.estimators.regressor import TransferRegressor
from transferclf.exceptions import (
    ExportError,
    InvalidParameterError,
    NetworkError,
    TransferclfError,
)
from transferclf.exporting.facts import facts_of
from transferclf.exporting.formats import Format, Run
from transferclf.exporting.registry import format_of
from transferclf.images import check_images
from transferclf.images.geometry import PLAIN
from transferclf.images.loading import load_all
from transferclf.persistence.places import checked_place

if TYPE_CHECKING:
    from transferclf.exporting.facts import Exportable, Facts

QUANTIZATIONS = (None, "float16", "int8")

# Largest differences of probabilities, and of values as shares of the largest one.
TOLERANCES = {None: 1e-4, "float16": 0.05, "int8": 0.5}
# ... of images that the file resizes: a few pixels may differ by one level in 255.
TOLERANCE_RESIZED = 0.05
# ... from an estimator that computes at a lower precision than the file.
TOLERANCE_BFLOAT16 = 0.05

N_COMPARED = 8
LEAST_IMAGES = 8  # for the ranges of activations


def export(
    estimator: Exportable,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    quantize: str | None = None,
    X: object = None,
) -> Path:
    """Write a fitted estimator as a file that other programs run without this package.

    The file takes RGB images, uint8 numbers from 0 to 255 of shape (n, h, w, 3), and returns
    probabilities, values or features as float32. Resizing (where the format can), the scaling of
    pixels and the names of the classes are in the file. When it is written it is read back by its
    own runtime, and its results are compared with those of the estimator. An existing file is
    replaced only then.

    Parameters
    ----------
    estimator : TransferClassifier, TransferRegressor or CNNFeatureExtractor
        A fitted estimator. From a pipeline pass the step, from a search `best_estimator_`.
    path : str or path-like
        The file, in an existing folder. Its suffix chooses the format: ``.onnx``, ``.xml``
        (OpenVINO, with a ``.bin`` beside it), ``.tflite`` (LiteRT, with a ``labels.txt`` beside
        it), ``.keras``, or no suffix (a folder, TensorFlow's SavedModel).
    format : {"onnx", "openvino", "litert", "keras", "saved_model"}, default=None
        The format, for other suffixes.
    quantize : {None, "float16", "int8"}, default=None
        "float16" stores large weights with 16 bits, which halves the file; ONNX, OpenVINO and
        LiteRT have it. "int8" also computes with 8 bits where the runtime can; ONNX and LiteRT have
        it, and OpenVINO with the package nncf.
    X : sequence of images, default=None
        Images like those of training, needed by "int8" for the ranges of activations: 8 or more,
        better 100. Other exports are compared on the first of them, or else on drawn images.

    Returns
    -------
    Path
        The path of the file.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    InvalidParameterError
        If there is no such format, it has no such quantization, a package of it is missing, or the
        estimator averages over several looks at an image (`test_time_augmentation`).
    NetworkError
        If the backbone is no Keras model, or a converter does not know one of its layers.
    ExportError
        If the results of the file differ from those of the estimator by more than 1e-4 (float16:
        0.05, int8: 0.5). For images that the file resizes itself, up to 0.05 is allowed. Values
        and features may differ by these shares of the largest one. No file is left.
    OSError
        If the file cannot be written. This is checked first.

    See Also
    --------
    predict_exported : Runs a file.
    read_exported : Returns the names of the classes and the other facts in a file.
    save_model : Saves an estimator for this package.

    Notes
    -----
    ONNX, OpenVINO and SavedModel files take images of any size, all of one size in a batch, where
    the backbone uses the resize of this package. Keras and LiteRT files, and backbones with a
    resize of their own library, take images of the network's size; ``takes_any_size`` of
    `read_exported` says so, and ``size`` and ``resize`` say how to resize images before.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier, export, read_exported
    >>> images = load_digits().images[:60].repeat(4, axis=1).repeat(4, axis=2) * 15.9
    >>> classifier = TransferClassifier(image_size=32, pixel_range=(0, 255), l2=0.1)
    >>> classifier = classifier.fit(images, load_digits(as_frame=False).target[:60])
    >>> path = export(classifier, Path(tempfile.mkdtemp(), "digits.xml"))
    >>> read_exported(path).names
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    check_choice("quantize", quantize, QUANTIZATIONS)
    _check(estimator)
    chosen = format_of(path, format)
    chosen.check_quantization(quantize)
    chosen.check_installed()
    _quiet.import_keras()
    chosen.check_backend()
    place = _place(chosen, path)
    images = _images(estimator, X, quantize)
    takes_any_size = chosen.takes_any_size and estimator.prefix_.sampling == PLAIN
    facts = facts_of(estimator, takes_any_size, quantize)
    chosen.check_beside(place, facts)
    with _moved_when_whole(chosen, place) as unchecked:
        from transferclf.exporting.graph import graph_of

        graph = graph_of(estimator, takes_any_size, chosen.is_final)
        with _quiet.conversion():
            with _converter_errors(chosen):
                chosen.write(graph, unchecked, facts, images)
            written, run = chosen.opened(unchecked)
        _compare(estimator, written, run, images)
    return place


def _check(estimator: Any) -> None:
    """Raise an error unless this is a fitted estimator that can be exported."""
    kinds = (TransferClassifier, TransferRegressor, CNNFeatureExtractor)
    if not isinstance(estimator, kinds):
        raise InvalidParameterError(
            "estimator must be a TransferClassifier, a TransferRegressor or a CNNFeatureExtractor. "
            f"Got {type(estimator).__name__} instead; of a pipeline pass the step, of a search "
            "best_estimator_."
        )
    check_is_fitted(estimator)
    if getattr(estimator, "test_time_augmentation", None) is not None:
        raise InvalidParameterError(
            "a file has one look at an image: set_params(test_time_augmentation=None) first. Got "
            f"{estimator.test_time_augmentation!r}."
        )


def _place(chosen: Format, path: str | os.PathLike[str]) -> Path:
    """Return the path, if all files of the export can be written. OSError is raised if not."""
    if isinstance(path, str | os.PathLike) and chosen.name == "saved_model":
        place = Path(path)
        if place.is_dir():
            if not (place / "saved_model.pb").is_file():
                raise FileExistsError(
                    f"expected a new folder or a SavedModel to replace, got {place}, which holds "
                    "other things"
                )
            checked_place(place / "saved_model.pb")
            return place
    place = checked_place(path)  # type: ignore[assignment]
    if not isinstance(place, Path):
        raise InvalidParameterError(f"path must be a path. Got {type(path).__name__} instead.")
    for file in chosen.beside(place):
        checked_place(file)
    return place


def _images(estimator: Exportable, X: object, quantize: str | None) -> np.ndarray:
    """Return uint8 images of the network's size: those of X, else drawn ones."""
    if X is None:
        if quantize == "int8":
            raise InvalidParameterError(
                "quantize='int8' needs images like those of training, to know the range of each "
                "activation: pass 8 or more, better 100, as X."
            )
        return _drawn(estimator.prefix_.size)
    source = estimator._checked(X, "raise")
    if quantize == "int8" and len(source) < LEAST_IMAGES:
        raise InvalidParameterError(
            f"quantize='int8' needs {LEAST_IMAGES} images or more as X. Got {len(source)}."
        )
    source = source if quantize == "int8" else source[:N_COMPARED]
    pixels = load_all(source, estimator.prefix_.size, estimator.resize_)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _drawn(size: tuple[int, int]) -> np.ndarray:
    """Draw images with coarse and fine structure."""
    random = np.random.default_rng(0)
    images = np.zeros((N_COMPARED, *size, 3))
    for cell in (1, 4, 16):
        cells = [-(-length // cell) for length in size]
        grid = random.uniform(0, 255, (N_COMPARED, *cells, 3))
        images += grid.repeat(cell, 1).repeat(cell, 2)[:, : size[0], : size[1]] / 3
    return images.astype(np.uint8)


@contextmanager
def _moved_when_whole(chosen: Format, place: Path) -> Iterator[Path]:
    """Give a path in a new folder. At the end, what is there replaces the files at `place`."""
    beside = place.parent / f".{place.name}.{uuid.uuid4().hex}.part"
    beside.mkdir()
    try:
        yield beside / place.name
        old = beside / "old"
        if place.is_dir():
            os.replace(place, old)
        for file in chosen.beside(place):
            os.replace(beside / file.name, file)
    finally:  # after Ctrl-C too
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _converter_errors(chosen: Format) -> Iterator[None]:
    """Turn the errors of a converter into a NetworkError."""
    try:
        yield
    except (OSError, MemoryError, TransferclfError):
        raise
    except Exception as error:  # converters raise almost anything
        raise NetworkError(
            f"the converter to {chosen.name!r} cannot write this network: {error!s:.500} Take "
            "another format."
        ) from error


# --- comparing


def _compare(estimator: Exportable, facts: Facts, run: Run, images: np.ndarray) -> None:
    """Raise ExportError if the file's results are not those of the estimator."""
    images = images[:N_COMPARED]
    tolerance = TOLERANCES[facts.quantize]
    if estimator.prefix_.precision != "float32":
        tolerance = max(tolerance, TOLERANCE_BFLOAT16)
    _check_close(_results(estimator, images), run(images), facts, tolerance)
    if facts.takes_any_size:
        other = _enlarged(images[:2])
        allowed = max(tolerance, TOLERANCE_RESIZED)
        _check_close(_results(estimator, other), run(other), facts, allowed)


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Return images of other proportions than the network's: half as wide again."""
    return np.concatenate([images, images[:, :, : images.shape[2] // 2]], axis=2)


def _results(estimator: Exportable, images: np.ndarray) -> np.ndarray:
    source = check_images(images)
    if isinstance(estimator, CNNFeatureExtractor):
        return estimator._rows(source)
    return estimator._linked(source)


def _check_close(expected: np.ndarray, found: np.ndarray, facts: Facts, tolerance: float) -> None:
    if found.shape != expected.shape:
        raise ExportError(
            f"the file returns an array of shape {found.shape}, expected {expected.shape}"
        )
    scale = 1.0 if facts.output == "probabilities" else max(np.abs(expected).max(), 1e-30)
    difference = np.abs(found - expected).max() / scale
    if not difference <= tolerance:  # NaN too
        raise ExportError(
            f"{facts.output} of the file differ from those of the estimator by {difference:.2g}, "
            f"expected {tolerance:g} at most. No file was left. Take another format, or another "
            "quantize."
        )
