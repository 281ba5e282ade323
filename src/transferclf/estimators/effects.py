"""Parameters that were set and have no effect: found by what was asked for, and said once."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from transferclf.exceptions import warn

_BY_KERAS = "a Keras optimizer: with hidden_units, dropout, l1, head or optimizer='adam'"
_IN_PHASES = f"{_BY_KERAS}, or with trainable_layers"
_STOPPING = "early_stopping=True where a Keras optimizer trains"
_TUNING = "trainable_layers on a pretrained backbone"
_HIDDEN = "hidden_units"

# What uses a parameter; one that is not here is named without.
USED_BY = {
    "activation": _HIDDEN,
    "batch_norm": _HIDDEN,
    "batch_size": _IN_PHASES,
    "callbacks": _IN_PHASES,
    "early_stopping": _IN_PHASES,
    "epochs": _BY_KERAS,
    "fine_tune_epochs": _TUNING,
    "fine_tune_learning_rate": _TUNING,
    "image_shape": "rows, which are a 2-D X",
    "layer_decay": _TUNING,
    "learning_rate": _BY_KERAS,
    "lr_schedule": _IN_PHASES,
    "max_iter": "L-BFGS: optimizer='auto' above a frozen backbone, no hidden_units, dropout or l1",
    "patience": _STOPPING,
    "pooling": "a backbone that ends in activation maps, without a head of your own",
    "precision": "a backbone of which something is frozen",
    "resize": "images that are no strips of one row of pixels",
    "test_time_augmentation": "an augmentation that has views",
    "validation_fraction": f"{_STOPPING} and fit is given no validation_data",
    "weights": "a backbone by name, which has no weights of its own",
    "zca_epsilon": "preprocessing='zca'",
}


class Asked:
    """A record of parameters that notes which of them are read.

    Parameters
    ----------
    parameters : Parameters
        The record; its properties are computed from here, so that what they read is noted.

    Attributes
    ----------
    names : set of str
        The fields that were read so far.
    """

    def __init__(self, parameters: Any):
        self._parameters = parameters
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        meaning = getattr(type(self._parameters), name, None)
        if isinstance(meaning, property) and meaning.fget is not None:
            return meaning.fget(self)
        self.names.add(name)
        return getattr(self._parameters, name)


def warn_without_effect(estimator: Any, used: set[str]) -> None:
    """Warn once of all parameters that differ from their default and are not used.

    `used` are the parameters on which the result depends. Of a subclass, only the parameters of the
    estimators of this package are looked at.
    """
    useless = [
        name
        for name, default in _defaults(type(estimator)).items()
        if name not in used and not _equals(getattr(estimator, name, default), default)
    ]
    if useless:
        warn(_message(estimator, useless))


def _defaults(kind: type) -> dict[str, Any]:
    own = next(each for each in kind.__mro__ if each.__module__.startswith("transferclf."))
    parameters = inspect.signature(own).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _message(estimator: Any, names: list[str]) -> str:
    by_use: dict[str, list[str]] = {}
    for name in names:
        shown = f"{name}={_shown(getattr(estimator, name))}"
        by_use.setdefault(USED_BY.get(name, ""), []).append(shown)
    parts = [
        ", ".join(group) + (f" (used by {use})" if use else "") for use, group in by_use.items()
    ]
    return f"set without effect on this fit: {'; '.join(parts)}"


def _shown(value: Any) -> str:
    """The value, the same text for each copy of it."""
    if value is None or isinstance(value, bool | int | float | str | np.generic | np.ndarray):
        return repr(value.tolist() if isinstance(value, np.generic | np.ndarray) else value)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return type(value).__name__


def _equals(value: Any, default: Any) -> bool:
    if isinstance(value, list | tuple | np.ndarray):
        value = tuple(np.asarray(value, dtype=object).tolist())
        return value == (() if default is None else default)
    return value is default or (default is not None and bool(value == default))
