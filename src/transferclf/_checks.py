"""Checks of parameters for every room. Each error says what was expected and what was given."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeGuard

import numpy as np

from transferclf._quiet import import_keras
from transferclf.exceptions import InvalidParameterError

# L-BFGS, and the optimizers of the oldest version of Keras that is supported.
OPTIMIZERS = (
    "auto", "lbfgs", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lion",
    "nadam", "rmsprop", "sgd",
)  # fmt: skip


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise InvalidParameterError: parameter `name` must be `expected`, but is `value`."""
    raise InvalidParameterError(f"{name} must be {expected}. Got {value!r} instead.")


def is_number(value: object, *, whole: bool = False) -> TypeGuard[Any]:
    """Whether a value is a real or whole number. True and False do not count as numbers."""
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


def is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is a list, a tuple or a 1-D array."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


def check_choice(name: str, value: object, allowed: Sequence[str | None]) -> None:
    """Raise InvalidParameterError unless `value` is one of `allowed`."""
    # The type comes first: comparing an array with a name gives an array.
    if not (value is None or isinstance(value, str)) or value not in allowed:
        refuse(name, f"one of {', '.join(map(repr, allowed))}", value)


def check_number(
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
    below: bool = False,
    or_else: str = "",
) -> None:
    """Raise InvalidParameterError unless `value` is a finite number from `low` to `high`.

    `above` leaves out `low` itself, and `below` leaves out `high`. `or_else` stands before the
    number in the message and names other allowed values.
    """
    is_inside = is_number(value, whole=whole) and low <= value <= high and value < math.inf
    if not is_inside or (above and value == low) or (below and value == high):
        kind = "a whole number" if whole else "a finite number"
        if high == math.inf:
            bounds = f"above {low}" if above else f"of at least {low}"
        elif above:
            bounds = f"above {low} and {'below' if below else 'at most'} {high}"
        else:
            bounds = f"from {low} to {'below ' if below else ''}{high}"
        refuse(name, f"{or_else}{kind} {bounds}", value)


def check_flag(name: str, value: object) -> None:
    """Raise InvalidParameterError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        refuse(name, "True or False", value)


def check_verbose(verbose: object) -> None:
    """Raise InvalidParameterError unless `verbose` is True, False or a whole number from 0 on."""
    if not isinstance(verbose, bool):
        check_number("verbose", verbose, 0, whole=True)


def check_n_jobs(n_jobs: object) -> None:
    """Raise InvalidParameterError unless `n_jobs` is None or a whole number other than 0."""
    if n_jobs is not None and not (is_number(n_jobs, whole=True) and n_jobs != 0):
        refuse("n_jobs", "None, a number of processes, or -1 for all cores", n_jobs)


def check_widths(name: str, widths: object) -> None:
    """Raise InvalidParameterError unless `widths` is a sequence of positive whole numbers."""
    if not is_sequence(widths) or not all(is_number(w, whole=True) and w >= 1 for w in widths):
        expected = "a sequence of whole numbers of at least 1, such as (64, 128), or () for none"
        refuse(name, expected, widths)


def check_rates(name: str, rates: object, n_layers: int, layers: str) -> None:
    """Raise InvalidParameterError unless `rates` is one dropout rate, or one for each layer.

    `layers` names the layers in the message, as in "one for each hidden layer".
    """
    is_one = is_number(rates)
    several = [rates] if is_one else rates
    if not is_sequence(several) or not all(is_number(rate) and 0 <= rate < 1 for rate in several):
        refuse(name, "a rate from 0 to below 1, or a sequence of them", rates)
    if not is_one and len(several) != n_layers:
        refuse(name, f"one number or {n_layers}: {layers}", rates)


def check_activation(name: str, activation: object) -> None:
    """Raise InvalidParameterError unless Keras has an activation of this name that keeps shapes.

    "threshold" is refused because it needs more arguments, and "glu" because it halves the width.
    """
    import_keras()
    import keras

    try:
        is_usable = isinstance(activation, str) and _keeps_shape(keras.activations.get(activation))
    except (TypeError, ValueError, NotImplementedError):
        is_usable = False
    if not is_usable:
        expected = (
            "one of Keras' names that needs no arguments and keeps the number of features, such as "
            "'relu', 'sigmoid', 'tanh' or 'gelu'"
        )
        refuse(name, expected, activation)


@functools.lru_cache(maxsize=64)
def _keeps_shape(function: Callable) -> bool:
    import keras

    # Only a shape is computed, so that this works in a forked process too. The layer has a name,
    # because Keras numbers layers without one, and the caller's layers would get other numbers.
    layer = keras.layers.Lambda(function, name="activation")
    return tuple(layer.compute_output_shape((1, 2))) == (1, 2)


def check_head(hidden_units: object, activation: object, dropout: object) -> None:
    """Raise InvalidParameterError unless these parameters describe the layers of a head.

    Keras is imported only if there are hidden layers.
    """
    units: Any = [hidden_units] if is_number(hidden_units, whole=True) else hidden_units
    check_widths("hidden_units", units)
    check_rates("dropout", dropout, max(len(units), 1), "one for each hidden layer")
    if len(units) > 0 or not isinstance(activation, str):
        check_activation("activation", activation)


def check_trainable_layers(trainable_layers: object) -> None:
    """Raise InvalidParameterError unless this is a number of layers, "auto", "all" or a name.

    Whether the network has such layers is checked when it is cut.
    """
    expected = "a whole number of layers, 'auto', 'all', or the name of a layer or block"
    if isinstance(trainable_layers, str):
        is_like_auto = trainable_layers.strip().lower() == "auto"
        if not trainable_layers or (is_like_auto and trainable_layers != "auto"):
            refuse("trainable_layers", expected, trainable_layers)
    elif not (is_number(trainable_layers, whole=True) and trainable_layers >= 0):
        refuse("trainable_layers", expected, trainable_layers)


def check_random_state(random_state: object) -> None:
    """Raise InvalidParameterError unless scikit-learn accepts this `random_state`."""
    is_seed = isinstance(random_state, Integral) and 0 <= int(random_state) < 2**32
    if not (is_seed or random_state is None or isinstance(random_state, np.random.RandomState)):
        expected = "None, a whole number from 0 to 2**32 - 1 or a numpy.random.RandomState"
        refuse("random_state", expected, random_state)


def check_seed(seed: object) -> None:
    """Raise InvalidParameterError unless `seed` is a whole number of 32 bits."""
    if not is_number(seed, whole=True) or not 0 <= seed < 2**32:
        refuse("seed", "a whole number from 0 to 2**32 - 1", seed)


def seed_from(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed from `random_state`. None takes one from the operating system.

    NumPy's global random state is neither read nor changed.
    """
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    return operator.index(random_state)
