"""Parameters that were set and have no effect: those that no step of fit has read."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import warn

if TYPE_CHECKING:
    from transferclf.estimators.parameters import Parameters

_BY_KERAS = "a Keras optimizer: with hidden_units, dropout, l1, head or optimizer='adam'"
_IN_PHASES = f"{_BY_KERAS}, or with trainable_layers"
_STOPPING = "early_stopping=True where a Keras optimizer trains"
_TUNING = "trainable_layers on a pretrained backbone"
_HIDDEN = "hidden_units"

# The conditions under which parameters are used, for the warning.
USED_BY = {
    "activation": _HIDDEN,
    "batch_norm": _HIDDEN,
    "batch_size": _IN_PHASES,
    "callbacks": _IN_PHASES,
    "early_stopping": _IN_PHASES,
    "epochs": _BY_KERAS,
    "fine_tune_epochs": _TUNING,
    "fine_tune_learning_rate": _TUNING,
    "global_clipnorm": f"{_TUNING}, by an optimizer that is a name",
    "image_shape": "rows, which are a 2-D X",
    "layer_decay": _TUNING,
    "learning_rate": _BY_KERAS,
    "lr_schedule": _IN_PHASES,
    "max_memory": "all but heads of your own on a frozen backbone",
    "max_iter": "L-BFGS: optimizer='auto' above a frozen backbone, no hidden_units, dropout or l1",
    "n_jobs": "a pretrained backbone",
    "patience": _STOPPING,
    "pooling": "a backbone that ends in activation maps, without a head of your own",
    "precision": "a pretrained backbone",
    "resize": "images that are no strips of one row of pixels",
    "test_time_augmentation": "an augmentation that has views",
    "soup": _TUNING,
    "validation_fraction": f"soup='auto' with {_TUNING}, or {_STOPPING}, unless fit is given "
    "validation_data",
    "warmup_fraction": f"{_TUNING}, and lr_schedule 'auto', 'cosine' or 'exponential'",
    "weight_decay": f"{_TUNING}, by an optimizer that is a name",
    "weights": "a backbone by name, which has no weights of its own",
    "zca_epsilon": "preprocessing='zca'",
}


class Asked:
    """A record of parameters that collects the `names` of the fields that are read.

    Properties of the record are computed from this object, so that the fields that they read are
    among the names.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        meaning = getattr(type(self._parameters), name, None)
        if isinstance(meaning, property) and meaning.fget is not None:
            return meaning.fget(self)
        self.names.add(name)
        return getattr(self._parameters, name)


def warn_without_effect(estimator: object, used: set[str]) -> None:
    """Warn once of all parameters that differ from their default and are not among `used`.

    The further parameters of a subclass outside this package are not looked at.
    """
    kinds = type(estimator).__mro__
    own = next(kind for kind in kinds if kind.__module__.startswith("transferclf."))
    by_use: dict[str, list[str]] = {}
    for name, parameter in inspect.signature(own).parameters.items():
        value = getattr(estimator, name, parameter.default)
        if name not in used and not _equals(value, parameter.default):
            by_use.setdefault(USED_BY.get(name, ""), []).append(f"{name}={_shown(value)}")
    if by_use:
        parts = [
            ", ".join(group) + (f" (used by {use})" if use else "") for use, group in by_use.items()
        ]
        warn(f"set without effect on this fit: {'; '.join(parts)}")


def _shown(value: object) -> str:
    """Return the value as text, the same for each copy of it."""
    if value is None or isinstance(value, bool | int | float | str | np.generic | np.ndarray):
        return repr(value.tolist() if isinstance(value, np.generic | np.ndarray) else value)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return type(value).__name__


def _equals(value: object, default: object) -> bool:
    if isinstance(value, list | tuple | np.ndarray):
        value = tuple(np.asarray(value, dtype=object).tolist())
        return value == (() if default is None else default)
    return value is default or (default is not None and bool(value == default))
