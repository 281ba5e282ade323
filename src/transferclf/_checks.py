"""Checks of parameters; each error says what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from transferclf.exceptions import InvalidParameterError

# L-BFGS, and the optimizers that Keras has had since the oldest version that is supported.
OPTIMIZERS = (
    "auto",
    "lbfgs",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lion",
    "nadam",
    "rmsprop",
    "sgd",
)


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise InvalidParameterError unless `value` is one of `allowed`."""
    is_allowed = value is None or isinstance(value, str)
    if not is_allowed or value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise InvalidParameterError(f"{name} must be one of {choices}. Got {value!r} instead.")


def check_number(
    name: str,
    value: Any,
    low: float,
    *,
    whole: bool = False,
    above: bool = False,
    or_else: str = "",
) -> None:
    """Raise InvalidParameterError unless `value` is a finite number of at least, or above, low."""
    if not _is_number(value, whole) or not low <= value < np.inf or (above and value == low):
        what = "a whole number" if whole else "a finite number"
        bound = f"above {low}" if above else f"of at least {low}"
        raise InvalidParameterError(f"{name} must be {or_else}{what} {bound}. Got {value!r}.")


def _is_number(value: Any, whole: bool) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


def check_head(hidden_units: Any, activation: Any, dropout: Any) -> None:
    """Raise InvalidParameterError unless these describe the layers of a head.

    Parameters
    ----------
    hidden_units : int or sequence of int
        Widths of hidden layers.
    activation : str
        One of Keras' names; asks Keras only if there are hidden layers.
    dropout : float or sequence of float
        One rate, or one for each hidden layer.
    """
    is_one = _is_number(hidden_units, whole=True)
    units = [hidden_units] if is_one else hidden_units
    is_sequence = isinstance(units, list | tuple | np.ndarray)
    if not is_sequence or not all(_is_number(width, True) and width >= 1 for width in units):
        raise InvalidParameterError(
            "hidden_units must be a sequence of whole numbers of at least 1, such as (256,), or () "
            f"for none. Got {hidden_units!r} instead."
        )
    _check_dropout(dropout, max(len(units), 1))
    _check_activation(activation, ask_keras=len(units) > 0)


def _check_dropout(dropout: Any, n_layers: int) -> None:
    is_one = _is_number(dropout, whole=False)
    rates = [dropout] if is_one else dropout
    is_sequence = isinstance(rates, list | tuple | np.ndarray)
    if not is_sequence or not all(_is_number(rate, False) and 0 <= rate < 1 for rate in rates):
        raise InvalidParameterError(
            f"dropout must be a rate from 0 to below 1, or a sequence of them. Got {dropout!r}."
        )
    if not is_one and len(rates) != n_layers:
        raise InvalidParameterError(
            f"dropout must be one number or {n_layers}, one for each hidden layer. Got {dropout!r}."
        )


def _check_activation(activation: Any, ask_keras: bool) -> None:
    if isinstance(activation, str) and not ask_keras:
        return
    try:
        import keras

        known = isinstance(activation, str) and callable(keras.activations.get(activation))
    except ValueError:
        known = False
    if not known:
        raise InvalidParameterError(
            "activation must be one of Keras' names, such as 'relu', 'sigmoid', 'tanh' or 'gelu'. "
            f"Got {activation!r} instead."
        )


def check_trainable_layers(trainable_layers: Any) -> None:
    """Raise InvalidParameterError unless this can say which layers are trained.

    Whether the network has such layers is seen when it is cut.
    """
    is_name = isinstance(trainable_layers, str) and trainable_layers
    if not is_name and not (_is_number(trainable_layers, whole=True) and trainable_layers >= 0):
        raise InvalidParameterError(
            "trainable_layers must be a whole number of layers, 'all', or the name of a layer or "
            f"block. Got {trainable_layers!r} instead."
        )


def check_random_state(random_state: Any) -> None:
    """Raise InvalidParameterError unless `random_state` is one of scikit-learn's."""
    is_number = isinstance(random_state, Integral) and 0 <= int(random_state) < 2**32
    if not (is_number or random_state is None or isinstance(random_state, np.random.RandomState)):
        raise InvalidParameterError(
            "random_state must be None, a whole number from 0 to 2**32 - 1 or a "
            f"numpy.random.RandomState. Got {random_state!r} instead."
        )


def seed_from(random_state: int | np.random.RandomState | None) -> int:
    """A whole number that `random_state` determines; None draws one from the system.

    NumPy's global random state is neither read nor advanced.
    """
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    return operator.index(random_state)
