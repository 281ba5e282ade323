"""Save and load estimators: `save_model` and `load_model`."""

from __future__ import annotations

import os
import platform
from typing import IO, TYPE_CHECKING

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf.augmentation.recipe import Augmentation
from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.estimators.parameters import check_test_time
from transferclf.estimators.reading import check_parameters, seed_of_fit, set_learned
from transferclf.estimators.regressor import TransferRegressor
from transferclf.estimators.unknown import UnknownRejector
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.graphs.digests import version_of
from transferclf.images.geometry import RESIZE_MODES
from transferclf.images.pixels import DtypeRange, PixelRange, ValueRange
from transferclf.objectives import Numbers, kinds, restored_objective
from transferclf.persistence.archive import Arrays, StoredArrays, opened_archive, write_archive
from transferclf.persistence.facts import MAX_TEXT, Facts, Written, as_archive_error
from transferclf.persistence.heads import head_facts, restored_head
from transferclf.persistence.parameters import (
    fields_of,
    parameter_facts,
    restored_fields,
    restored_parameters,
)
from transferclf.persistence.places import checked_place, place_name, readable_place
from transferclf.persistence.prefixes import prefix_facts, restored_prefix
from transferclf.persistence.rejectors import (
    REJECTOR,
    classifier_in,
    rejector_facts,
    restored_rejector,
)
from transferclf.persistence.tuning import restored_tuning, tuning_facts

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from transferclf.backbones.onnx import OnnxBackbone

Estimator = TransferClassifier | TransferRegressor | CNNFeatureExtractor

# To be raised when older versions could not read what is written.
FORMAT = 4

KINDS: dict[str, type[Estimator]] = {
    "CNNFeatureExtractor": CNNFeatureExtractor,
    "TransferClassifier": TransferClassifier,
    "TransferRegressor": TransferRegressor,
}

_LEARNED = {
    "augmentation_", "head_", "history_", "l2_", "n_head_iter_", "n_iter_", "phases_", "soup_",
    "sample_indices_", "tuning_",
}  # fmt: skip

# Attributes of a fitted estimator that are restored from an archive.
ATTRIBUTES = {
    "CNNFeatureExtractor": {"n_features_out_"},
    "TransferClassifier": {*_LEARNED, "classes_"},
    "TransferRegressor": {*_LEARNED, "n_outputs_", "output_names_"},
}
SHARED_ATTRIBUTES = {
    "feature_names_in_", "n_features_in_", "pixel_range_", "prefix_", "resize_", "skipped_indices_",
}  # fmt: skip

_PACKAGES = ("keras", "numpy", "scikit-learn", "tensorflow", "transferclf")
_RANGES: dict[str, type[DtypeRange] | type[ValueRange]] = {"type": DtypeRange, "values": ValueRange}


def save_model(
    estimator: Estimator | UnknownRejector,
    path: str | os.PathLike[str] | IO[bytes],
    *,
    include_weights: bool = False,
) -> None:
    """Save a fitted estimator to a file that holds no code.

    The file is a zip of one JSON text and of arrays. An existing file is replaced when the new one
    is complete, so that no file is ever half written.

    Parameters
    ----------
    estimator : TransferClassifier, TransferRegressor, CNNFeatureExtractor or UnknownRejector
        A fitted estimator. From a pipeline, pass the step. The estimator inside of an
        UnknownRejector must be a TransferClassifier, frozen or not.
    path : str, path-like or binary file object
        The file; its folder must exist. A file object, such as `io.BytesIO()` or one that was
        opened by "wb", is written to from its current position, and stays open.
    include_weights : bool, default=False
        Whether to save also weights that can be loaded by the name of the backbone: those bundled
        with this package, those of ImageNet, and those drawn from a seed. Trained weights and
        weights from a file of your own are always saved.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    InvalidParameterError
        If it is of another class, or a parameter is an object that JSON cannot hold: `head`, Keras
        optimizers, schedules and callbacks, a RandomState. All but `head` are not needed to
        predict, and can be set to something else first.
    ArchiveError
        If there are more than two gigabytes of numbers, or some are not finite.
    OSError
        If the file cannot be written: there is no such folder, the path is a folder, or writing is
        not allowed. This is checked first.

    See Also
    --------
    load_model : Loads it.

    Notes
    -----
    Predictions of the loaded estimator are the same. The place of stored features and `n_jobs` are
    not saved (`cache` is "memory" or None after loading), and neither is the state of an optimizer;
    pickle keeps them. The mean and deviation of the features are saved, so that `partial_fit` can
    go on. Archives of older versions lack them: after loading, features stay standardised as they
    are.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier, load_model, save_model
    >>> images, labels = load_digits(return_X_y=True)
    >>> classifier = TransferClassifier(image_size=32, image_shape=(8, 8), pixel_range=(0, 16))
    >>> path = Path(tempfile.mkdtemp(), "digits.model")
    >>> save_model(classifier.fit(images[:50], labels[:50]), path)
    >>> bool((load_model(path).predict(images) == classifier.predict(images)).all())
    True
    """
    is_rejector = type(estimator) is UnknownRejector
    inner = estimator
    if is_rejector:
        check_is_fitted(estimator)
        inner = classifier_in(estimator)
    kind = type(inner).__name__
    if type(inner) is not KINDS.get(kind):
        raise InvalidParameterError(
            "estimator must be a TransferClassifier, a TransferRegressor, a CNNFeatureExtractor or "
            f"an UnknownRejector, and no subclass. Got {type(inner).__name__} instead; of a "
            "pipeline, save the step."
        )
    place = checked_place(path)
    arrays: Arrays = {}
    facts = _facts(inner, kind, arrays, include_weights)
    if is_rejector:
        facts = rejector_facts(estimator, facts, arrays)
    write_archive(place, {"format": FORMAT, "kind": "", "versions": versions()} | facts, arrays)


def load_model(
    path: str | os.PathLike[str] | IO[bytes],
    *,
    backbone: str | Path | OnnxBackbone | keras.Model | None = None,
) -> Estimator | UnknownRejector:
    """Load an estimator that `save_model` has saved; no code of the file is run.

    Parameters
    ----------
    path : str, path-like or binary file object
        The file. A file object is read from its beginning to its end, and stays open.
    backbone : keras.Model, OnnxBackbone, path or None, default=None
        The network, if the estimator was fitted with one of your own, or the ONNX file; its weights
        must be the same. Not needed if its builder is registered under the same name.

    Returns
    -------
    TransferClassifier, TransferRegressor, CNNFeatureExtractor or UnknownRejector
        The fitted estimator.

    Raises
    ------
    ArchiveError
        If the file is no archive, is damaged, has a newer format, or contradicts itself.
    InvalidParameterError
        If `backbone` is missing, not needed or not the right one, or an engine is not installed.
    WeightsError
        If a backbone was saved by its name and has other weights on this machine.
    FileNotFoundError
        If there is no such file.

    See Also
    --------
    save_model : Saves it, and has an example.

    Notes
    -----
    Digests detect damage, not forgery: the author of a file decides its predictions, and how large
    a network of the registry is built. A file can do nothing else.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from transferclf import CNNFeatureExtractor, load_model, save_model
    >>> path = Path(tempfile.mkdtemp(), "features.model")
    >>> save_model(CNNFeatureExtractor(image_size=32).fit(np.zeros((1, 32, 32), np.uint8)), path)
    >>> load_model(path).image_size
    32
    """
    place = readable_place(path)
    try:
        with opened_archive(place) as (facts, arrays):
            return _restored(facts, arrays, backbone)
    except ArchiveError as error:
        # The message may contain long texts of the file.
        message = f"{place_name(place)} cannot be loaded: {error!s:.{MAX_TEXT}}"
        raise ArchiveError(message) from error


def versions() -> dict[str, str]:
    """Return the versions of Python and packages in use. They may explain different results."""
    packages = {name: version_of(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | packages


def saved_versions(path: Path) -> dict[str, str]:
    """Return the versions of Python and packages that a model was saved with."""
    with opened_archive(path) as (facts, _):
        saved = facts.part("versions")
        return {name: saved.text(name) for name in saved.names()}


def _facts(estimator: Estimator, kind: str, arrays: Arrays, include_weights: bool) -> Written:
    """Return kind, parameters and fitted attributes of an estimator; arrays go to `arrays`."""
    check_is_fitted(estimator, "n_features_out_" if kind == "CNNFeatureExtractor" else None)
    known = {*estimator.get_params(deep=False), *SHARED_ATTRIBUTES, *ATTRIBUTES[kind]}
    others = [name for name in vars(estimator) if name not in known and not name.startswith("_")]
    if others:
        raise InvalidParameterError(
            f"an archive has no place for {', '.join(others)} of the estimator: delete it first, "
            "or pickle the estimator."
        )
    check_parameters(estimator)
    return {
        "kind": kind,
        "parameters": parameter_facts(estimator),
        "fitted": _fitted_facts(estimator, arrays, include_weights),
    }


def _fitted_facts(estimator: Estimator, arrays: Arrays, include_weights: bool) -> Written:
    names = getattr(estimator, "feature_names_in_", None)
    length = getattr(estimator, "n_features_in_", None)
    arrays["skipped_indices"] = estimator.skipped_indices_.astype(np.int64)
    facts: Written = {
        "pixel_range": _range_facts(estimator.pixel_range_),
        "resize": estimator.resize_,
        "n_features_in": None if length is None else int(length),
        "feature_names_in": None if names is None else list(map(str, names)),
        "prefix": prefix_facts(estimator.prefix_, arrays, include_weights),
    }
    if isinstance(estimator, CNNFeatureExtractor):
        return facts | {"n_features_out": int(estimator.n_features_out_)}
    if hasattr(estimator, "sample_indices_"):  # not after partial_fit
        arrays["sample_indices"] = estimator.sample_indices_.astype(np.int64)
    augmentation, objective = estimator.augmentation_, estimator.head_.suffix.objective
    if estimator.tuning_ is not None:
        facts["tuning"] = tuning_facts(estimator.tuning_, objective.measure)
    return facts | {
        objective.kind: objective.to_json(),
        "augmentation": None if augmentation is None else fields_of(augmentation),
        "seed": seed_of_fit(estimator),
        "head": head_facts(estimator.head_, arrays),
    }


def _range_facts(pixel_range: PixelRange) -> Written | None:
    if pixel_range is None or isinstance(pixel_range, str):
        return None if pixel_range is None else {"kind": pixel_range}
    kind = next((kind for kind, made in _RANGES.items() if made is type(pixel_range)), "given")
    low, high = np.asarray(pixel_range).tolist()
    return {"kind": kind, "low": low, "high": high}


def _restored(
    facts: Facts, arrays: StoredArrays, backbone: keras.Model | None
) -> Estimator | UnknownRejector:
    version = facts.whole("format", 1)
    if version > FORMAT:
        raise ArchiveError(
            f"it has format {version}, and this version of transferclf reads formats up to "
            f"{FORMAT}: upgrade the package."
        )
    kind = facts.text("kind", (*KINDS, REJECTOR))
    versions = facts.part("versions")
    for name in versions.names():
        versions.text(name)
    if kind != REJECTOR:
        estimator = _restored_estimator(kind, version, facts, arrays, backbone)
        arrays.finish()
        return estimator
    parameters, fitted = facts.part("parameters"), facts.part("fitted")
    facts.finish()
    inner = fitted.part("estimator")
    classifier = _restored_estimator(
        inner.text("kind", ("TransferClassifier",)), version, inner, arrays, backbone
    )
    rejector = restored_rejector(parameters, fitted, arrays, classifier)
    fitted.finish()
    arrays.finish()
    return rejector


def _restored_estimator(
    kind: str, version: int, facts: Facts, arrays: StoredArrays, backbone: keras.Model | None
) -> Estimator:
    """Return an estimator from its parameters and fitted attributes."""
    made = KINDS[kind]
    known = set(made().get_params(deep=False))
    params = restored_parameters(facts.part("parameters"), known, version)
    fitted = facts.part("fitted")
    facts.finish()
    estimator = made(**params)
    if estimator.backbone is None:
        estimator.backbone = backbone
    with as_archive_error():
        check_parameters(estimator)
    estimator.pixel_range_ = _restored_range(fitted.or_none(fitted.part, "pixel_range"))
    estimator.resize_ = fitted.text("resize", RESIZE_MODES)
    _restore_columns(estimator, fitted)
    estimator.skipped_indices_ = np.empty(0, np.int64)  # there were none in older versions
    if "skipped_indices" in arrays:
        estimator.skipped_indices_ = arrays.take("skipped_indices", (None,), "i")
    estimator.prefix_ = restored_prefix(fitted.part("prefix"), arrays, backbone)
    if isinstance(estimator, CNNFeatureExtractor):
        estimator.n_features_out_ = fitted.whole("n_features_out", 1)
    else:
        _restore_learned(estimator, fitted, arrays)
    fitted.finish()
    if estimator.backbone is None:
        estimator.backbone = estimator.prefix_.model
    return estimator


def _restore_columns(estimator: Estimator, facts: Facts) -> None:
    """Restore the number of columns that the estimator was fitted with, and their names."""
    length = facts.or_none(facts.whole, "n_features_in", 1)
    names = facts.or_none(facts.texts, "feature_names_in")
    if length is not None:
        estimator.n_features_in_ = length
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
        if len(names) != length:
            raise facts.wrong(f"{length} names", names, "feature_names_in")


def _restore_learned(
    estimator: TransferClassifier | TransferRegressor, facts: Facts, arrays: StoredArrays
) -> None:
    objective_kind = next((name for name in kinds() if name in facts.names()), "classes")
    part = facts.part(objective_kind)
    with as_archive_error(f"{part.where} "):
        objective = restored_objective(objective_kind, part.take_all())
    if isinstance(objective, Numbers) != isinstance(estimator, TransferRegressor):
        raise ArchiveError(f"{type(estimator).__name__} has no targets of kind {objective_kind!r}.")
    for name, value in objective.attributes().items():
        setattr(estimator, name, value)
    fields = facts.or_none(facts.part, "augmentation")
    estimator.augmentation_ = None if fields is None else restored_fields(Augmentation, fields)
    with as_archive_error():
        check_test_time(estimator.test_time_augmentation, estimator.augmentation_)
    seed = facts.whole("seed", 0)
    if "sample_indices" in arrays:
        estimator.sample_indices_ = arrays.take("sample_indices", (None,), "i")
    head = restored_head(facts.part("head"), arrays, objective, estimator.prefix_)
    set_learned(estimator, head, seed)
    if "tuning" in facts.names():
        estimator.tuning_ = restored_tuning(facts.part("tuning"), objective.measure)


def _restored_range(facts: Facts | None) -> PixelRange:
    if facts is None:
        return None
    kind = facts.text("kind", ("minmax", "given", *_RANGES))
    if kind == "minmax":
        facts.finish()
        return "minmax"
    low, high = facts.number("low"), facts.number("high")
    facts.finish()
    if low >= high:
        raise facts.wrong("a rising pair", (low, high))
    return _RANGES[kind](low, high) if kind in _RANGES else (low, high)
