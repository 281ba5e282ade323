"""Checks of parameters and targets; each error says what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from transferclf._spelling import did_you_mean, known_by_look, shortened, told_apart
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


def encode_targets(y: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Check class labels and return (classes, indices into classes).

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels: strings, integers or booleans.
    n_samples : int
        Number of images that they belong to.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The distinct labels, sorted.
    indices : ndarray of shape (n_samples,)
        Which of them each sample has.

    Raises
    ------
    ValueError
        If there is not one label per image, labels are missing or continuous, or there are
        fewer than two classes.
    """
    labels = _labels(y, n_samples)
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "A classifier needs images of at least two classes. Got one class: "
            f"{classes.tolist()[0]!r}."
        )
    return classes, indices


def known_targets(y: Any, n_samples: int, classes: np.ndarray) -> np.ndarray:
    """Check labels that may only be of known classes, and return their indices.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels.
    n_samples : int
        Number of images that they belong to.
    classes : ndarray of shape (n_classes,)
        The known classes, sorted.

    Returns
    -------
    ndarray of int, shape (n_samples,)

    Raises
    ------
    ValueError
        If there is not one label per image, or one that is not known.
    """
    labels = _labels(y, n_samples)
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise ValueError(
            f"y must have labels of the known classes, {classes.tolist()}. Got {unknown} too."
            + did_you_mean(unknown, classes.tolist(), only_look_alikes=True)
        )
    return np.searchsorted(classes, labels)


def look_alike_remark(y: Any, classes: np.ndarray) -> str:
    """Say which labels are not among the classes, but look like one of them.

    Such labels may be meant, as in a test set with one more class. Most often they are a known
    class that is written in another way, and all its images count as wrong.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels.
    classes : ndarray of shape (n_classes,)
        The classes that can be predicted.

    Returns
    -------
    str
        Empty if there are none.
    """
    known = classes.tolist()
    unknown = sorted(set(np.ravel(np.asarray(y)).tolist()) - set(known), key=str)
    pairs = [told_apart(pair) for pair in known_by_look(unknown, known).items()]
    if not pairs:
        return ""
    examples = shortened([f"{label} like {alike}" for label, alike in pairs])
    return (
        f"y has labels that are never predicted, but look like a class that is: {examples}; where "
        "one class is meant, write it in one way, since these images all count as wrong"
    )


def first_classes(classes: Any) -> np.ndarray:
    """The classes that there will be, sorted; for the first call of `partial_fit`."""
    if classes is None:
        raise ValueError("classes must be passed to the first call of partial_fit.")
    labels = column_or_1d(classes)
    _refuse_missing(labels)
    _refuse_mixed(labels)
    known = np.unique(labels)
    if len(known) < 2:
        raise ValueError(f"classes must be at least two. Got {known.tolist()}.")
    return known


def _labels(y: Any, n_samples: int) -> np.ndarray:
    if y is None:
        raise ValueError("TransferClassifier requires y to be passed, but the target y is None.")
    labels = column_or_1d(y, warn=True)
    if len(labels) != n_samples:
        raise ValueError(
            f"X and y must have one label per image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {len(labels)} labels."
        )
    _refuse_missing(labels)
    _refuse_mixed(labels)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y must hold class labels. Got infinite numbers.")
    check_classification_targets(labels)
    return labels


def _refuse_missing(labels: np.ndarray) -> None:
    if labels.dtype.kind not in "fmMO":
        return
    missing = [index for index, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"y has no label for {len(missing)} of {len(labels)} images (NaN or None), the first "
            f"at index {missing[0]}. Label them or leave these images out."
        )


def _is_missing(label: Any) -> bool:
    """Whether a label is None or one of the values that differ from themselves: NaN, NaT, NA."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # comparing pandas.NA has no truth value
        return True


def _refuse_mixed(labels: np.ndarray) -> None:
    kinds = {"a text" if isinstance(label, str) else "a number" for label in labels.tolist()}
    if labels.dtype == object and len(kinds) > 1:
        raise ValueError("y must have labels of one type. Got both texts and numbers.")


def check_sample_weight(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return weights as float64 of shape (n_samples,); None is a weight of one each."""
    if sample_weight is None:
        return np.ones(n_samples)
    weights = _floats("sample_weight", sample_weight)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must have shape ({n_samples},), one weight per image. "
            f"Got {weights.shape} instead."
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
        raise ValueError(
            "sample_weight must be finite, nowhere negative and not zero everywhere. "
            f"Got values from {weights.min()} to {weights.max()}."
        )
    return weights


def _floats(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameterError(f"{name} must hold numbers. Got {values!r} instead.") from None


def class_weights(
    class_weight: str | Mapping | None, classes: np.ndarray, indices: np.ndarray
) -> np.ndarray | None:
    """A factor for each class, or None; in the words of scikit-learn's `class_weight`."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, (None, "balanced", "a dict"))
        return compute_class_weight("balanced", classes=np.arange(len(classes)), y=indices)
    if not isinstance(class_weight, Mapping):
        raise InvalidParameterError(
            f"class_weight must be None, 'balanced' or a dict. Got {class_weight!r} instead."
        )
    unknown = set(class_weight) - set(classes.tolist())
    if unknown:
        raise InvalidParameterError(
            f"class_weight names classes that y has not: {sorted(unknown, key=str)}; "
            f"y has {classes.tolist()}.{did_you_mean(sorted(unknown, key=str), classes.tolist())}"
        )
    weights = _floats("class_weight", [class_weight.get(label, 1.0) for label in classes.tolist()])
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InvalidParameterError(
            "class_weight must be finite, nowhere negative and not zero for all classes. "
            f"Got {class_weight}."
        )
    return weights
