"""audit: find what is wrong with a set of images before anything is learned from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
from transferclf.reports.auditing.labels import Judgement, judged_labels
from transferclf.reports.auditing.naming import missing_classes, similar_names
from transferclf.reports.auditing.readable import facts_of, features_of_readable, kinds_of
from transferclf.reports.extras import extra
from transferclf.reports.predictions import few_of_each_class, n_samples_of
from transferclf.reports.tables import Row, table_of

# An image is odd where its distance is so many deviations above the usual one: Iglewicz and
# Hoaglin, "How to Detect and Handle Outliers" (1993), propose 3.5.
ODD = 3.5

# Fewer images of a class than this do not show what is usual in it.
FEW = 10

# An image of which a network sees less than this share is said to be cut.
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

    All of it from the features of a frozen network, which are stored: a later fit on the same
    backbone finds them.

    Parameters
    ----------
    X : array-like or sequence of images, n of them
        Of any kind, all splits together. Images that cannot be read are listed, and the others
        looked at.
    y : array-like of shape (n,) or None, default=None
        Class labels.
    splits : array-like of shape (n,), dict or None, default=None
        The name of the split that each image is in ("train", "test"); or from these names to
        positions in X.
    extractor : CNNFeatureExtractor or None, default=None
        What gives the features; None is ``CNNFeatureExtractor("tiny")``. How much of each image
        a network sees is said for its `resize` and its input size.
    threshold : float, default=0.9
        From which cosine of their centred features two images are near copies. For the bundled
        backbone ``docs/auditing.md`` says what that finds and what it takes for copies.
    n_neighbors : int, default=5
        How many of the nearest images with the same label an image is compared with, to find odd
        ones.
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
    classes, labels = _coded_labels(y, n_samples)
    names = _split_names(splits, n_samples)
    extractor = CNNFeatureExtractor() if extractor is None else clone(extractor)
    extractor.set_params(verbose=max(int(extractor.verbose), int(verbose)))
    features, source, problems = features_of_readable(X, extractor)
    describe = _describer(X, classes, labels, names)
    result = Audit(
        n_images=n_samples,
        classes=classes,
        splits=None if names is None else sorted(set(names.tolist())),
        threshold=threshold,
        quality=np.full(n_samples, np.nan),
        distance=np.full(n_samples, np.nan),
        seen=np.full(n_samples, np.nan),
        groups=np.full(n_samples, -1),
        **{name: table_of([], columns) for name, columns in COLUMNS.items()},
    )
    rows = [describe(index) | {"problem": text} for index, text in sorted(problems.items())]
    result.unreadable = table_of(rows, COLUMNS["unreadable"])
    if classes is not None:
        _look_at_names(result, classes[labels].tolist(), names)
    if source is not None:
        _look_at_sizes(result, source, extractor, describe)
        _look_at(result, features, source, labels, names, describe, n_neighbors, int(verbose))
    return result


def _look_at_names(result: Audit, labels: list[Any], names: np.ndarray | None) -> None:
    """Fill in the findings of the labels alone."""
    splits = None if names is None else names.tolist()
    rows = {
        "missing_classes": missing_classes(labels, splits),
        "similar_names": similar_names(labels),
    }
    for name, table in rows.items():
        result[name] = table_of(table, COLUMNS[name])


def _look_at_sizes(
    result: Audit,
    source: ImageSource,
    extractor: CNNFeatureExtractor,
    describe: Callable[[int], Row],
) -> None:
    """Fill in the findings of the sizes of readable images."""
    facts = facts_of(source)
    shares = seen_shares(facts, extractor.prefix_.size, extractor.resize_)
    result.seen[source.positions] = shares
    result.sizes = table_of(kinds_of(facts), COLUMNS["sizes"])
    rows = [
        describe(source.positions[i])
        | {"height": facts[i].upright[0], "width": facts[i].upright[1], "seen": float(shares[i])}
        for i in _worst(shares, shares < CUT)
    ]
    result.cropped = table_of(rows, COLUMNS["cropped"])


def _look_at(
    result: Audit,
    features: np.ndarray,
    source: ImageSource,
    labels: np.ndarray,
    names: np.ndarray | None,
    describe: Callable[[int], Row],
    n_neighbors: int,
    verbose: int,
) -> None:
    """Fill in the findings of the features of readable images."""
    positions = source.positions
    kept = labels[positions]
    codes = (
        np.zeros(len(labels), int) if names is None else np.unique(names, return_inverse=True)[1]
    )
    with bar_if(verbose, len(positions), "images compared") as advance:
        found = neighbourhood(
            features,
            content_digests(source),
            kept,
            codes[positions],
            threshold=result.threshold,
            n_neighbors=n_neighbors,
            advance=advance,
        )
    pairs = _Pairs(found, positions, describe, result.threshold)
    result.distance[positions], result.groups[positions] = found.distance, found.groups
    deviations = _deviations(found.distance, kept)
    rows: dict[str, list[Row]] = {
        "exact_duplicates": pairs.copies(),
        "near_duplicates": [row for row in pairs.of(found.of_all) if row["kind"] == "near"],
        "label_conflicts": pairs.of(found.of_other_label),
        "leaks": pairs.of(found.of_other_split),
        "odd_ones": [
            describe(positions[i]) | {"distance": found.distance[i], "deviations": deviations[i]}
            for i in _worst(-deviations, deviations > ODD)
        ],
    }
    if result.classes is not None:
        judged = judged_labels(features, kept, len(result.classes), found.groups, verbose)
        result.quality[positions] = judged.quality
        rows["label_errors"] = _label_errors(judged, result.classes, positions, describe)
    for name, table in rows.items():
        result[name] = table_of(table, COLUMNS[name])


class _Pairs:
    """Makes rows of tables about images that are alike."""

    def __init__(
        self,
        found: Neighbourhood,
        positions: np.ndarray,
        describe: Callable[[int], Row],
        threshold: float,
    ):
        self.exact, self.positions, self.describe = found.exact, positions, describe
        self.threshold = threshold

    def copies(self) -> list[Row]:
        counts = np.bincount(self.exact)
        members = np.flatnonzero(counts[self.exact] > 1)
        groups = list(dict.fromkeys(self.exact[members].tolist()))
        return [
            {"group": number} | self.describe(self.positions[i])
            for number, group in enumerate(groups)
            for i in members[self.exact[members] == group]
        ]

    def of(self, neighbours: Neighbours) -> list[Row]:
        """Rows of images with their most similar other one, each pair once, exact ones first."""
        rows = []
        for i in _worst(-neighbours.similarity, neighbours.similarity >= self.threshold):
            other = neighbours.nearest[i]
            if neighbours.nearest[other] == i and other < i:
                continue  # the pair is there from its other side
            row = self.describe(self.positions[i])
            about = self.describe(self.positions[other])
            row |= {f"other_{name}": value for name, value in about.items()}
            is_exact = self.exact[i] == self.exact[other]
            kind = "exact" if is_exact else "near"
            rows.append(row | {"similarity": float(neighbours.similarity[i]), "kind": kind})
        return sorted(rows, key=lambda row: row["kind"])


def _label_errors(
    judged: Judgement,
    classes: np.ndarray,
    positions: np.ndarray,
    describe: Callable[[int], Row],
) -> list[Row]:
    names = classes.tolist()
    return [
        describe(positions[i])
        | {
            "suggested": names[judged.suggested[i]],
            "probability": float(judged.quality[i]),
            "suggested_probability": float(judged.probabilities[i, judged.suggested[i]]),
        }
        for i in _worst(judged.quality, judged.is_suspect)
    ]


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


def _describer(
    X: Any, classes: np.ndarray | None, labels: np.ndarray, names: np.ndarray | None
) -> Callable[[int], Row]:
    items = X if isinstance(X, list | tuple) else np.asarray(X)
    class_names = None if classes is None else classes.tolist()

    def describe(index: int) -> Row:
        item = items[index]
        if isinstance(item, np.ndarray) and item.shape == (1,):
            item = item[0]  # of a table with one column of paths
        return {
            "index": int(index),
            "file": os.fspath(item) if isinstance(item, str | os.PathLike) else "",
            "label": None if class_names is None else class_names[labels[index]],
            "split": None if names is None else names[index],
        }

    return describe
