"""The estimators of this package inside of any estimator that is not fitted yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from transferclf._checks import is_sequence
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.parameters import BackboneParameters
from transferclf.exceptions import InvalidParameterError

# Parameters on which features depend, besides those of the backbone.
OF_FEATURES = {"augmentation", "head", "layer", "test_time_augmentation", "trainable_layers"}


def backbones_in(estimator: Any, X: Any) -> Iterator[tuple[BackboneEstimator, Any]]:
    """Yield the estimators of this package inside of an estimator, each with the X that it gets.

    A search gives those of all its settings that differ in features. Raise InvalidParameterError if
    these cannot be listed.
    """
    if isinstance(estimator, BackboneEstimator):
        yield estimator, X
    elif isinstance(estimator, Pipeline):
        for number, (_, step) in enumerate(estimator.steps):
            inside = list(backbones_in(step, X))
            if inside:
                before = clone(estimator[:number]).fit_transform(X) if number else X
                yield from ((inner, before) for inner, _ in inside)
                return
    else:
        for candidate in _inner(estimator):
            yield from backbones_in(candidate, X)


def _inner(estimator: Any) -> Iterator[Any]:
    """Yield the estimators that another one holds: one for each setting of a search."""
    inner = getattr(estimator, "estimator", None)
    settings = getattr(estimator, "param_grid", getattr(estimator, "param_distributions", None))
    if inner is not None and settings is not None:
        for setting in _settings(inner, settings):
            yield clone(inner).set_params(**setting)
    elif inner is not None:
        yield inner
    for name in ("estimators", "transformer_list", "transformers"):
        for each in getattr(estimator, name, None) or ():
            yield each[1]


def _settings(estimator: Any, settings: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of a search, without parameters that change no features."""
    seen = []
    for grid in [settings] if isinstance(settings, Mapping) else settings:
        chosen = {name: grid[name] for name in grid if not _is_of_head(estimator, name)}
        for name, values in chosen.items():
            if not is_sequence(values):
                raise InvalidParameterError(
                    f"expected all values of {name!r}, on which features depend, as a list; got "
                    f"{values!r}. Warm each network by a call of its own."
                )
        for setting in ParameterGrid(chosen):
            if setting not in seen:
                seen.append(setting)
                yield setting


def _is_of_head(estimator: Any, name: str) -> bool:
    """Return whether a parameter, such as "classifier__l2", changes the head alone."""
    owner, _, own_name = name.rpartition("__")
    held = estimator.get_params().get(owner) if owner else estimator
    known = {parameter.name for parameter in fields(BackboneParameters)} | OF_FEATURES
    return isinstance(held, BackboneEstimator) and own_name not in known
