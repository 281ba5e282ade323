"""audit: find what is wrong with a set of images before anything is learned from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone

from transferclf._checks import check_number, check_verbose, refuse
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.exceptions import InvalidParameterError
from transferclf.images.loading import content_digests
from transferclf.images.progress import bar_if
from transferclf.images.source import ImageSource
from transferclf.objectives.labels import known_targets
from transferclf.reports.auditing.cropping import seen_shares
from transferclf.reports.auditing.duplicates import Neighbourhood, Neighbours, neighbourhood
from transferclf.reports.auditing.findings import COLUMNS, Audit
from transferclf.reports.auditing.labels import judged_labels
from transferclf.reports.auditing.naming import missing_classes, similar_names
from transferclf.reports.auditing.readable import facts_of, features_of_readable, kinds_of
from transferclf.reports.predictions import few_of_each_class, n_samples_of
from transferclf.reports.tables import Row, extra, table_of

# An image is odd where its distance is so many deviations above the usual one: Iglewicz and
# Hoaglin, "How to Detect and Handle Outliers" (1993), propose 3.5.
ODD = 3.5

# Fewer images of a class are too few for a median.
FEW = 10

# An image is listed as cut if the network sees less than this share of it.
CUT = 0.5

# Makes the median absolute deviation of normally distributed numbers their standard deviation.
_TO_DEVIATION = 1.4826


def audit(
    X: Any,
    y: Any = None,
    *,
    splits: Any = None,
    extractor: CNNFeatureExtractor | None = None,
    threshold: float = 0.9,
    n_neighbors: int = 5,
    verbose: int = 0,
) -> Audit:
    """Look for copies, leaks, wrong labels, odd, cut and unreadable images.

    All of it comes from the features of a frozen network, which are stored: a later fit on the same
    backbone finds them.

    Parameters
    ----------
    X : array-like or sequence of images, n of them
        Of any kind, all splits together. Unreadable images are listed, and the others looked at.
    y : array-like of shape (n,) or None, default=None
        Class labels.
    splits : array-like of shape (n,), dict or None, default=None
        The name of the split of each image ("train", "test"); or from these names to positions in
        X.
    extractor : CNNFeatureExtractor or None, default=None
        The source of the features; None is ``CNNFeatureExtractor("tiny")``. Its `resize` and input
        size decide how much of each image is seen.
    threshold : float, default=0.9
        The cosine of centred features from which two images are near copies. ``docs/auditing.md``
        says what that finds for the bundled backbone.
    n_neighbors : int, default=5
        With how many of the nearest images of its label an image is compared, to find odd ones.
    verbose : int, default=0
        1 shows progress, also that of the extraction.

    Returns
    -------
    Audit
        Tables by name; `print` shows the worst of each and what to do about them.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ImageError
        If X is nothing that could be images.
    InvalidParameterError
        If a parameter is none of the above.
    ValueError
        If there is not one label for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf.reports import audit
    >>> images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    >>> images[7] = images[2]
    >>> found = audit(images, splits=["train"] * 6 + ["test"] * 6)
    >>> found.leaks[["index", "other_index", "kind"]].values.tolist()
    [[2, 7, 'exact']]
    """
    extra("pandas")
    n_samples = n_samples_of(X)
    _check_parameters(extractor, threshold, n_neighbors, verbose)
    samples = _samples(X, y, splits, n_samples)
    extractor = CNNFeatureExtractor() if extractor is None else clone(extractor)
    extractor.set_params(verbose=max(int(extractor.verbose), int(verbose)))
    features, source, problems = features_of_readable(X, extractor)
    result = Audit(
        n_images=n_samples,
        classes=samples.classes,
        splits=None if samples.splits is None else sorted(set(samples.splits.tolist())),
        threshold=threshold,
        quality=np.full(n_samples, np.nan),
        distance=np.full(n_samples, np.nan),
        seen=np.full(n_samples, np.nan),
        groups=np.full(n_samples, -1),
    )
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    rows["unreadable"] = [
        samples.row(index) | {"problem": text} for index, text in sorted(problems.items())
    ]
    rows |= _of_names(samples)
    if source is not None:
        rows |= _of_sizes(result, samples, source, extractor)
        found = _neighbourhood(samples, features, source, threshold, n_neighbors, verbose)
        rows |= _of_neighbours(result, samples, source, found)
        rows |= _of_labels(result, samples, source, features, found.groups, int(verbose))
    result.update({name: table_of(rows[name], columns) for name, columns in COLUMNS.items()})
    return result


@dataclass(frozen=True)
class _Samples:
    """The images as they were given, with the class (a position) and the split of each."""

    images: Any
    classes: np.ndarray | None
    labels: np.ndarray
    splits: np.ndarray | None

    @cached_property
    def items(self) -> Any:
        """The images as a sequence; not asked for before iterators without end were refused."""
        return self.images if isinstance(self.images, list | tuple) else np.asarray(self.images)

    def row(self, index: int) -> Row:
        """The columns that tell which image a row of a table is about."""
        item = self.items[index]
        if isinstance(item, np.ndarray) and item.shape == (1,):
            item = item[0]  # of a table with one column of paths
        is_path = isinstance(item, str | os.PathLike)
        label = None
        if self.classes is not None:
            (label,) = self.classes[self.labels[[index]]].tolist()
        return {
            "index": int(index),
            "file": os.fspath(item) if is_path else "",
            "label": label,
            "split": None if self.splits is None else self.splits[index],
        }


def _samples(X: Any, y: Any, splits: Any, n_samples: int) -> _Samples:
    classes, labels = _coded_labels(y, n_samples)
    return _Samples(X, classes, labels, _split_names(splits, n_samples))


def _of_names(samples: _Samples) -> dict[str, list[Row]]:
    """The findings of the labels alone."""
    if samples.classes is None:
        return {}
    labels = samples.classes[samples.labels].tolist()
    splits = None if samples.splits is None else samples.splits.tolist()
    return {
        "missing_classes": missing_classes(labels, splits),
        "similar_names": similar_names(labels),
    }


def _of_sizes(
    result: Audit, samples: _Samples, source: ImageSource, extractor: CNNFeatureExtractor
) -> dict[str, list[Row]]:
    """The findings of the sizes of readable images."""
    facts = facts_of(source)
    shares = seen_shares(facts, extractor.prefix_.size, extractor.resize_)
    result.seen[source.positions] = shares
    cropped = []
    for i in _worst(shares, shares < CUT):
        height, width = facts[i].upright
        sides = {"height": height, "width": width, "seen": float(shares[i])}
        cropped.append(samples.row(source.positions[i]) | sides)
    return {"sizes": kinds_of(facts), "cropped": cropped}


def _neighbourhood(
    samples: _Samples,
    features: np.ndarray,
    source: ImageSource,
    threshold: float,
    n_neighbors: int,
    verbose: int,
) -> Neighbourhood:
    splits = np.zeros(len(samples.labels), int)
    if samples.splits is not None:
        splits = np.unique(samples.splits, return_inverse=True)[1]
    with bar_if(int(verbose), len(source), "images compared") as advance:
        return neighbourhood(
            features,
            content_digests(source),
            samples.labels[source.positions],
            splits[source.positions],
            threshold=threshold,
            n_neighbors=n_neighbors,
            advance=advance,
        )


def _of_neighbours(
    result: Audit, samples: _Samples, source: ImageSource, found: Neighbourhood
) -> dict[str, list[Row]]:
    """The findings of the distances between readable images."""
    positions = source.positions
    result.distance[positions], result.groups[positions] = found.distance, found.groups
    deviations = _deviations(found.distance, samples.labels[positions])

    def pairs(neighbours: Neighbours) -> list[Row]:
        return _pairs(samples, positions, neighbours, found.exact, result.threshold)

    return {
        "exact_duplicates": _copies(samples, positions, found.exact),
        "near_duplicates": [row for row in pairs(found.of_all) if row["kind"] == "near"],
        "label_conflicts": pairs(found.of_other_label),
        "leaks": pairs(found.of_other_split),
        "odd_ones": [
            samples.row(positions[i]) | {"distance": found.distance[i], "deviations": deviations[i]}
            for i in _worst(-deviations, deviations > ODD)
        ],
    }


def _copies(samples: _Samples, positions: np.ndarray, exact: np.ndarray) -> list[Row]:
    """Rows of the images with copies, those of one group together."""
    members = np.flatnonzero(np.bincount(exact)[exact] > 1)
    groups = list(dict.fromkeys(exact[members].tolist()))
    return [
        {"group": number} | samples.row(positions[i])
        for number, group in enumerate(groups)
        for i in members[exact[members] == group]
    ]


def _pairs(
    samples: _Samples,
    positions: np.ndarray,
    neighbours: Neighbours,
    exact: np.ndarray,
    threshold: float,
) -> list[Row]:
    """Rows of images with their most similar other one, each pair once, exact ones first."""
    rows = []
    for i in _worst(-neighbours.similarity, neighbours.similarity >= threshold):
        other = neighbours.nearest[i]
        if neighbours.nearest[other] == i and other < i:
            continue  # the pair is there from its other side
        about = samples.row(positions[other])
        row = samples.row(positions[i]) | {f"other_{name}": each for name, each in about.items()}
        kind = "exact" if exact[i] == exact[other] else "near"
        rows.append(row | {"similarity": float(neighbours.similarity[i]), "kind": kind})
    return sorted(rows, key=lambda row: row["kind"])


def _of_labels(
    result: Audit,
    samples: _Samples,
    source: ImageSource,
    features: np.ndarray,
    groups: np.ndarray,
    verbose: int,
) -> dict[str, list[Row]]:
    """The findings of heads that judge the labels of images that they have not seen."""
    if samples.classes is None:
        return {}
    positions, names = source.positions, samples.classes.tolist()
    judged = judged_labels(features, samples.labels[positions], len(names), groups, verbose)
    result.quality[positions] = judged.quality
    errors = []
    for i in _worst(judged.quality, judged.is_suspect):
        suggested = judged.suggested[i]
        shares = {
            "suggested": names[suggested],
            "probability": float(judged.quality[i]),
            "suggested_probability": float(judged.probabilities[i, suggested]),
        }
        errors.append(samples.row(positions[i]) | shares)
    return {"label_errors": errors}


def _deviations(distance: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Robust standard deviations of each distance above the median of its class, shape (n,)."""
    deviations = np.full(len(distance), -np.inf)
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & np.isfinite(distance))
        if len(members) >= FEW:
            above = distance[members] - np.median(distance[members])
            usual = _TO_DEVIATION * np.median(np.abs(above))
            deviations[members] = above / max(usual, 1e-6)
    return deviations


def _worst(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    return order[chosen[order]]


def _check_parameters(extractor: Any, threshold: Any, n_neighbors: Any, verbose: Any) -> None:
    if extractor is not None and not isinstance(extractor, CNNFeatureExtractor):
        raise InvalidParameterError(
            f"extractor must be a CNNFeatureExtractor or None. Got {extractor!r:.200} instead."
        )
    check_number("threshold", threshold, 0)
    if threshold > 1:
        refuse("threshold", "a cosine, at most 1", threshold)
    check_number("n_neighbors", n_neighbors, 1, whole=True)
    check_verbose(verbose)


@few_of_each_class()
def _coded_labels(y: Any, n_samples: int) -> tuple[np.ndarray | None, np.ndarray]:
    """The classes and the position of each label in them; None and zeros without labels."""
    if y is None:
        return None, np.zeros(n_samples, int)
    labels = np.asarray(y)
    known_targets(labels, n_samples, labels)  # there may be one class only; for the other checks
    return np.unique(labels.ravel(), return_inverse=True)


def _split_names(splits: Any, n_samples: int) -> np.ndarray | None:
    if splits is None:
        return None
    if isinstance(splits, Mapping):
        return _names_at(splits, n_samples)
    names = np.array([str(name) for name in splits], dtype=object)
    if isinstance(splits, str) or len(names) != n_samples:
        raise InvalidParameterError(
            f"splits must name the split of each of the {n_samples} images. "
            f"Got {len(names)} names instead."
        )
    return names


def _names_at(splits: Mapping[Any, Any], n_samples: int) -> np.ndarray:
    names = np.full(n_samples, None, dtype=object)
    for name, positions in splits.items():
        where = np.asarray(positions)
        if where.dtype.kind not in "biu" or (where.dtype == bool and len(where) != n_samples):
            raise InvalidParameterError(
                f"splits[{name!r}] must be positions in X. Got {where.dtype} instead."
            )
        if where.dtype != bool and not ((where >= 0) & (where < n_samples)).all():
            raise InvalidParameterError(
                f"splits[{name!r}] must be positions from 0 to {n_samples - 1}. "
                f"Got {where.min()} to {where.max()}."
            )
        names[where] = str(name)
    missing = [index for index, name in enumerate(names) if name is None]
    if missing:
        raise InvalidParameterError(
            f"splits must say where each image is. {len(missing)} are in none, the first is "
            f"image {missing[0]}."
        )
    return names
