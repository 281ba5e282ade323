"""audit: find what is wrong with a set of images before anything is learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import median_abs_deviation
from sklearn.base import clone

from transferclf._checks import check_choice, check_n_jobs, check_number, check_verbose, refuse
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.exceptions import InvalidParameterError
from transferclf.images.loading import content_digests
from transferclf.images.progress import bar_if
from transferclf.images.source import ImageSource
from transferclf.reports.auditing.doubts import FINDERS
from transferclf.reports.auditing.duplicates import Neighbourhood, Neighbours, neighbourhood
from transferclf.reports.auditing.findings import Audit, columns_of
from transferclf.reports.auditing.labels import label_counts, missing_classes, similar_names
from transferclf.reports.auditing.readable import (
    Readable,
    cells_of,
    facts_of,
    file_of,
    kinds_of,
    readable_images,
    seen_shares,
)
from transferclf.reports.auditing.rows import ODD, rows_about, worst_first
from transferclf.reports.auditing.targets import Targets, targets_of
from transferclf.reports.predictions import n_samples_of
from transferclf.reports.tables import Row, extra, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

    Tables = dict[str, list[Row] | DataFrame]

FEW = 10  # fewer images of a class are too few for a median
CUT = 0.5  # an image is listed as cut if the network sees less than this share of it


def audit(
    X: object,
    y: object = None,
    *,
    splits: Sequence[object] | np.ndarray | Mapping[object, npt.ArrayLike] | None = None,
    extractor: CNNFeatureExtractor | None = None,
    threshold: float = 0.9,
    n_neighbors: int = 5,
    kind: str | None = None,
    on_error: str = "skip",
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Audit:
    """Look for copies, leaks, wrong labels, odd, cut and unreadable images.

    Images are compared by features of a frozen network. The features are stored, so that a later
    fit on the same backbone uses them again.

    Parameters
    ----------
    X : array-like or sequence of images, n of them
        Of any kind, all splits together.
    y : array-like of shape (n,), or of one row for each image, or None, default=None
        Class labels. For several labels an indicator, a data frame or a sequence of label sets; for
        numbers an array of shape (n,) or (n, n_outputs).
    splits : array-like of shape (n,), dict or None, default=None
        The name of the split of each image ("train", "test"); or a dict from these names to
        positions in X.
    extractor : CNNFeatureExtractor or None, default=None
        The source of the features; None is ``CNNFeatureExtractor("tiny")``. Its `resize` and input
        size decide how much of each image is seen.
    threshold : float, default=0.9
        The cosine of centred features from which two images are near copies.
        ``docs/tutorials/auditing.md`` says what that finds for the bundled backbone.
    n_neighbors : int, default=5
        Odd images are found by the mean distance to so many nearest images of the same class; of
        all images, where targets are no classes.
    kind : {"classes", "multilabel", "numbers"} or None, default=None
        The kind of target. None takes tables and label sets for several labels, numbers with
        fractions for numbers, and all else for classes.
    on_error : {"skip", "raise"}, default="skip"
        What happens to images that cannot be read. "skip" lists them in the table "unreadable" and
        compares the others; "raise" names all of them in one error.
    n_jobs : int or None, default=None
        Processes that compute the features; None is that of the extractor.
    verbose : int, default=0
        1 shows progress, also that of the extraction.

    Returns
    -------
    Audit
        Tables by name; `print` shows the worst of each, with advice.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ImageError
        If X cannot be images, or some cannot be read and `on_error` is "raise".
    InvalidParameterError
        If a parameter is not as above.
    ValueError
        If there is not one target for each image.

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
    X = cells_of(X)
    n_samples = n_samples_of(X)
    _check_parameters(extractor, threshold, n_neighbors, on_error, n_jobs, verbose)
    targets = targets_of(y, n_samples, kind)
    names = _split_names(splits, n_samples)
    extractor = _reader(extractor, n_jobs, int(verbose))
    readable = readable_images(X, n_samples, extractor, on_error)
    about = _about(X, label=targets.shown, code=targets.code, split=names)
    result = _result(targets, names, n_samples, threshold)
    unreadable = sorted(readable.problems)
    texts = [readable.problems[position] for position in unreadable]
    stated, places = targets.stated
    tables: Tables = {
        "unreadable": rows_about(about, unreadable, problem=texts),
        "missing_classes": missing_classes(stated, None if names is None else names[places]),
        "similar_names": similar_names(stated),
        "label_counts": label_counts(targets),
    }
    if readable.source is not None:
        within = targets.within[readable.positions]
        about = about.iloc[readable.positions]
        tables |= _of_sizes(result, about, readable.source, extractor)
        found = _compared(about, within, readable, threshold, n_neighbors, int(verbose))
        tables |= _of_neighbours(result, about, within, found)
        finder = FINDERS[targets.kind]
        tables |= finder(result, about, targets, readable, found.groups, int(verbose))
    for name, columns in columns_of(targets.kind).items():
        result[name] = table_of(tables.get(name, []), columns)
    return result


def _result(targets: Targets, names: np.ndarray | None, n_samples: int, threshold: float) -> Audit:
    """Return the result before anything is found."""
    return Audit(
        n_images=n_samples,
        classes=targets.names,
        kind=targets.kind,
        splits=None if names is None else sorted(set(names.tolist())),
        threshold=threshold,
        quality=np.full(n_samples, np.nan),
        distance=np.full(n_samples, np.nan),
        seen=np.full(n_samples, np.nan),
        groups=np.full(n_samples, -1),
    )


def _about(X: object, **columns: Any) -> DataFrame:
    """Return the columns that identify each image; "code" is the class as a number."""
    files = list(map(file_of, X if isinstance(X, list | tuple) else np.asarray(X)))
    return extra("pandas").DataFrame({"index": range(len(files)), "file": files} | columns)


def _compared(
    about: DataFrame,
    within: np.ndarray,
    readable: Readable,
    threshold: float,
    n_neighbors: int,
    verbose: int,
) -> Neighbourhood:
    assert readable.source is not None
    splits, _ = extra("pandas").factorize(about["split"])
    with bar_if(verbose, len(about), "images compared") as advance:
        return neighbourhood(
            readable.features,
            content_digests(readable.source),
            about["code"].to_numpy(),
            splits,
            within=within,
            threshold=threshold,
            n_neighbors=n_neighbors,
            advance=advance,
        )


def _of_sizes(
    result: Audit, about: DataFrame, source: ImageSource, extractor: CNNFeatureExtractor
) -> Tables:
    """Return the findings of the sizes of readable images."""
    facts = facts_of(source)
    shares = seen_shares(facts, extractor.prefix_.size, extractor.resize_)
    result.seen[about["index"]] = shares
    chosen = worst_first(shares, shares < CUT)
    heights, widths = np.array([one.upright for one in facts])[chosen].T
    cropped = rows_about(about, chosen, height=heights, width=widths, seen=shares[chosen])
    return {"sizes": kinds_of(facts), "cropped": cropped}


def _of_neighbours(
    result: Audit, about: DataFrame, within: np.ndarray, found: Neighbourhood
) -> Tables:
    """Return the findings of the distances between readable images."""
    result.distance[about["index"]] = found.distance
    result.groups[about["index"]] = found.groups
    copies = np.flatnonzero(np.bincount(found.exact)[found.exact] > 1)
    numbers, _ = extra("pandas").factorize(found.exact[copies])
    order = np.argsort(numbers, kind="stable")
    near = _pairs(about, found.of_all, found.exact, result.threshold)
    deviations = _deviations(found.distance, within)
    odd = worst_first(-deviations, deviations > ODD)
    distances = {"distance": found.distance[odd], "deviations": deviations[odd]}
    return {
        "exact_duplicates": rows_about(about, copies[order], group=numbers[order]),
        "near_duplicates": near[near["kind"] == "near"].reset_index(drop=True),
        "label_conflicts": _pairs(about, found.of_other_label, found.exact, result.threshold),
        "leaks": _pairs(about, found.of_other_split, found.exact, result.threshold),
        "odd_ones": rows_about(about, odd, **distances),
    }


def _pairs(
    about: DataFrame, neighbours: Neighbours, exact: np.ndarray, threshold: float
) -> DataFrame:
    """Return images with their most similar other one, each pair once, exact copies first."""
    nearest, similarity = neighbours.nearest, neighbours.similarity
    one = worst_first(-similarity, similarity >= threshold)
    # If each is the nearest of the other, the pair is listed from one side.
    one = one[(nearest[nearest[one]] != one) | (nearest[one] > one)]
    other = nearest[one]
    kind = np.where(exact[one] == exact[other], "exact", "near")
    table = rows_about(about, one, similarity=similarity[one], kind=kind)
    table = table.join(rows_about(about, other).add_prefix("other_"))
    return table.sort_values("kind", kind="stable", ignore_index=True)


def _deviations(distance: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return robust standard deviations of each distance above the median of its class, (n,)."""
    deviations = np.full(len(distance), -np.inf)
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & np.isfinite(distance))
        if len(members) >= FEW:
            above = distance[members] - np.median(distance[members])
            usual = median_abs_deviation(above, scale="normal")
            deviations[members] = above / max(usual, 1e-6)
    return deviations


def _check_parameters(
    extractor: object,
    threshold: float,
    n_neighbors: object,
    on_error: object,
    n_jobs: object,
    verbose: object,
) -> None:
    if extractor is not None and not isinstance(extractor, CNNFeatureExtractor):
        raise InvalidParameterError(
            f"extractor must be a CNNFeatureExtractor or None. Got {extractor!r:.200} instead."
        )
    check_number("threshold", threshold, 0)
    if threshold > 1:
        refuse("threshold", "a cosine, at most 1", threshold)
    check_number("n_neighbors", n_neighbors, 1, whole=True)
    check_choice("on_error", on_error, ("skip", "raise"))
    check_n_jobs(n_jobs)
    check_verbose(verbose)


def _reader(
    extractor: CNNFeatureExtractor | None, n_jobs: int | None, verbose: int
) -> CNNFeatureExtractor:
    """Return an own extractor that raises an error for images that cannot be read."""
    extractor = CNNFeatureExtractor() if extractor is None else clone(extractor)
    n_jobs = extractor.n_jobs if n_jobs is None else n_jobs
    verbose = max(int(extractor.verbose), verbose)
    return extractor.set_params(n_jobs=n_jobs, verbose=verbose, on_error="raise")


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


def _names_at(splits: Mapping[object, npt.ArrayLike], n_samples: int) -> np.ndarray:
    names = np.full(n_samples, None, dtype=object)
    for name, positions in splits.items():
        where = np.asarray(positions)
        where = where if where.size else where.astype(int)
        is_mask = where.dtype == bool and len(where) == n_samples
        is_inside = where.dtype.kind in "iu" and ((where >= 0) & (where < n_samples)).all()
        if not is_mask and not is_inside:
            raise InvalidParameterError(
                f"splits[{name!r}] must be positions from 0 to {n_samples - 1}, or a mask of "
                f"{n_samples}. Got {positions!r:.200} instead."
            )
        names[where] = str(name)
    missing = [index for index, name in enumerate(names) if name is None]
    if missing:
        raise InvalidParameterError(
            f"splits must say where each image is. {len(missing)} are in none, the first is "
            f"image {missing[0]}."
        )
    return names
