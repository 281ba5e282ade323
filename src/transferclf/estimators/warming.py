"""warm: fill a store with the features of images, ahead of fits and searches that need them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from transferclf._checks import check_verbose, is_number, seed_from
from transferclf.augmentation.views import View
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.estimators.inside import backbones_in
from transferclf.estimators.parameters import BackboneParameters
from transferclf.estimators.skipping import Sound, read_sound, warn_of_skipped
from transferclf.estimators.transfer import TransferEstimator
from transferclf.estimators.tuning import options_for
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.features import FeatureStore, store_for
from transferclf.features.frozen import Prefix
from transferclf.features.row_space import RowLimit, RowSpace
from transferclf.features.work import Computed, Unit, UnitMap
from transferclf.images import ImageSource
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import faults_named
from transferclf.training.memory import bytes_of
from transferclf.training.plan import runs_prefix, variants_of

# Images whose rows are in memory at a time: whole batches, so that these are those of `fit`.
CHUNK = 2048


@dataclass(frozen=True)
class Warmed:
    """What :func:`warm` has done.

    Attributes
    ----------
    images, distinct : int
        Number of images, and of different ones among those that are not left out.
    passes : int
        Number of features of each image: one for each network, cut, crop and view.
    computed, known : int
        Features that this call computed, and those that were stored already or that another process
        computed meanwhile.
    skipped : int
        Images that were left out, because they cannot be used and `on_error` is "skip".
    seconds : float
        Wall time.
    nbytes : int
        Size of the whole store.
    path : str or None
        Its folder; None if it is in memory.
    """

    images: int
    distinct: int
    passes: int
    computed: int
    known: int
    skipped: int
    seconds: float
    nbytes: int
    path: str | None


def warm(
    X: object,
    estimator: Any = "tiny",
    *,
    cache: str | Path | FeatureStore | None = None,
    verbose: int = 0,
) -> Warmed:
    """Compute the features that fits of an estimator will need, and store them.

    A search that follows finds them and runs no network. Several processes may warm one store on
    disk at the same time; each computes a part of the images. The estimator is not changed.

    Parameters
    ----------
    X : array-like or sequence of images, n of them
        The images of the fits and predictions to come.
    estimator : estimator or backbone, default="tiny"
        A TransferClassifier, TransferRegressor or CNNFeatureExtractor; a pipeline or a search with
        one inside, for which all networks of the grid count; or a backbone as for
        CNNFeatureExtractor. Only its parameters count, not what it has learned. Steps of a pipeline
        that come before are fitted to X as copies.
    cache : path, FeatureStore or None, default=None
        The store. None is the one of the estimator, and for a backbone that of this process.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    Warmed
        What was done.

    Raises
    ------
    ImageError, NetworkError, WeightsError
        If the images, the network or its weights cannot be used. Of an estimator with
        `on_error="skip"`, some of the images may be at fault.
    InvalidParameterError
        If a parameter cannot be used, the estimator keeps no features or has random weights that
        differ in each fit, or if all layers are trained, so that nothing is constant.

    Warns
    -----
    TransferclfWarning
        If the store is too small for all features, or processes of a search will not share it; if
        images are left out.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import FeatureStore, TransferClassifier, warm
    >>> digits = load_digits()
    >>> classifier = TransferClassifier(pixel_range=(0, 16), cache=FeatureStore())
    >>> report = warm(digits.images[:50], classifier)
    >>> report.images, report.computed, report.known
    (50, 50, 0)
    >>> warm(digits.images[:50], classifier).computed
    0
    """
    begin = time.perf_counter()
    check_verbose(verbose)
    if not hasattr(estimator, "get_params"):
        estimator = CNNFeatureExtractor(estimator, cache="memory" if cache is None else cache)
    work = _Work()
    for inner, images in backbones_in(estimator, X):
        work.add(_copy(inner, cache, int(verbose)), images)
    report = work.report(begin)
    # Workers of an estimator of this package send rows to this process, which stores them.
    n_jobs = (
        None if isinstance(estimator, BackboneEstimator) else getattr(estimator, "n_jobs", None)
    )
    if report.path is None and n_jobs not in (None, 1):
        warn(
            f"n_jobs={n_jobs} may start processes, which do not share a store in memory: "
            "set the cache of the estimator to a folder"
        )
    return report


def _copy(estimator: BackboneEstimator, cache: Any, verbose: int) -> BackboneEstimator:
    """Return an unfitted copy with this store, if its features can be stored."""
    copy = clone(estimator)
    copy.verbose = verbose
    if cache is not None:
        copy.cache = cache
    if store_for(copy.cache) is None:
        raise InvalidParameterError(
            "expected an estimator that keeps features, got cache=None: set its cache to a folder, "
            "to 'memory' or to a FeatureStore."
        )
    has_weights = not isinstance(copy.backbone, str) or copy.weights is not None
    if not has_weights and not is_number(copy.random_state, whole=True):
        raise InvalidParameterError(
            "expected the same network in each fit, got weights=None and "
            f"random_state={copy.random_state!r}, which start from other random weights each time: "
            "set random_state to a whole number."
        )
    return copy


class _Work:
    """The passes of all estimators, each done once, and counts of what was done."""

    def __init__(self) -> None:
        self.store: FeatureStore | None = None
        self.n_images = self.n_distinct = 0
        self._sound: Sound | None = None  # that of most images left out
        self._done: set[tuple[object, ...]] = set()
        self._computed: set[bytes] = set()

    def add(self, estimator: BackboneEstimator, X: object) -> None:
        """Do the passes of an unfitted estimator over its images."""
        self.store = self.store or store_for(estimator.cache)
        source, on_error = estimator._fit_source(X), estimator.on_error
        Sound.of(source, on_error)  # an error if there is no image to be used
        self.n_images = max(self.n_images, len(source))
        for each in passes_of(estimator):
            read_as = (str(estimator.image_shape), str(source.pixel_range))
            networks = {each.prefix.digest, each.prefix.whole().digest}
            view = each.view and each.view.digest
            names = {(network, each.resize, view, *read_as) for network in networks}
            if not names <= self._done:
                do = partial(self._do, each, estimator, source)
                self.n_distinct = max(self.n_distinct, read_sound(do, [source], on_error))
                self._done |= names
        sound = Sound.of(source, on_error)
        if self._sound is None or len(sound.skipped) > len(self._sound.skipped):
            self._sound = sound

    def report(self, begin: float) -> Warmed:
        """Return what was done; raise InvalidParameterError if there was nothing to do."""
        store = self.store
        if store is None or self._sound is None or not self._done:
            raise InvalidParameterError(
                "expected an estimator with frozen layers, got none, or one that trains all layers "
                "from pixels, so that there are no features to store."
            )
        warn_of_skipped(("X", self._sound))
        n_lost = len(self._computed - store.holds(list(self._computed)))
        if n_lost:
            warn(
                f"{n_lost} of {len(self._computed)} computed features are not in the store any "
                f"more: max_bytes={store.max_bytes} is too small. Pass FeatureStore(..., "
                "max_bytes=...) as cache"
            )
        n_passes, n_computed = len(self._done), len(self._computed)
        return Warmed(
            images=self.n_images,
            distinct=self.n_distinct,
            passes=n_passes,
            computed=n_computed,
            known=self.n_distinct * n_passes - n_computed,
            skipped=len(self._sound.skipped),
            seconds=round(time.perf_counter() - begin, 3),
            nbytes=store.info().nbytes,
            path=store.path,
        )

    def _do(self, each: Pass, estimator: BackboneEstimator, source: ImageSource) -> int:
        """Do one pass over the images that are not skipped; return the number of distinct ones."""
        keys: set[bytes] = set()
        read = estimator._extractor(each.resize)
        read = replace(read, run=_noting(read.run, self._computed))
        most = bytes_of(getattr(estimator, "max_memory", "auto"))
        source = Sound.of(source, estimator.on_error).source
        with faults_named(source, range(len(source))):
            for start in range(0, len(source), CHUNK):
                part = source[np.arange(start, min(start + CHUNK, len(source)))]
                reader = replace(read, _looks_of={})
                with RowLimit(len(part), most) as limit:
                    into = RowSpace(len(part), limit).part()
                    keys.update(reader.fill(into, part, each.prefix, each.view))
                    if each.prefix.is_cut:
                        reader.after_cut(part, into.rows, each.prefix, each.view)
        return len(keys)


class Pass(NamedTuple):
    """All images through one network. If it is cut, the rest of it follows."""

    prefix: Prefix
    resize: ResizeMode
    view: View | None = None


def passes_of(estimator: BackboneEstimator) -> list[Pass]:
    """Return the passes that fits and predictions need of an estimator whose images are checked."""
    if isinstance(estimator, CNNFeatureExtractor):
        checked = BackboneParameters.of(estimator)
        seed = seed_from(checked.random_state)
        estimator._fit_prefix(checked, seed, layers=estimator._layers())
        return [Pass(estimator.prefix_, estimator.resize_)]
    assert isinstance(estimator, TransferEstimator)
    parameters = estimator._record.of(estimator)
    seed = seed_from(parameters.random_state)
    estimator._fit_network(parameters, seed, parameters.trainable_layers)
    passes = []
    for option in options_for(parameters, estimator.prefix_, None)[0]:
        prefix, recipe = option.prefix, option.parameters.recipe_of_views
        if prefix.is_scratch:
            continue
        is_afresh = runs_prefix(recipe, prefix)
        for crop, view in variants_of(recipe, prefix):
            is_on_pixels = prefix.is_empty or (is_afresh and view is not None)
            below = prefix.whole() if is_on_pixels else prefix
            passes.append(Pass(below, crop or estimator.resize_, view))
        if not prefix.is_empty:
            passes += [Pass(prefix, *look) for look in estimator._looks()]
    return passes


def _noting(run: UnitMap, keys: set[bytes]) -> UnitMap:
    """Return the same map, which adds the keys of all that it computes to a set."""

    def noting(units: Sequence[Unit]) -> Iterator[Computed]:
        results = run(units)
        try:
            for computed in results:
                keys.update(computed.keys)
                yield computed
        finally:
            if isinstance(results, Generator):
                results.close()

    return noting
