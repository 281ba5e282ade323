"""The kinds of heads that are fitted to features without a Keras optimizer."""

from __future__ import annotations

from collections.abc import Callable

from transferclf.exceptions import InvalidParameterError
from transferclf.heads.fitted import FittedHead
from transferclf.heads.linear import LinearHead, fit_linear
from transferclf.heads.ridge import fit_ridge

LBFGS = "lbfgs"
RIDGE = "ridge"  # of numbers alone

# Both of these give a LinearHead.
_FITS: dict[str, Callable[..., FittedHead]] = {LBFGS: fit_linear, RIDGE: fit_ridge}
_CLASSES: dict[str, type[FittedHead]] = {LinearHead.kind: LinearHead}


def register_head(name: str, fit: Callable[..., FittedHead], head: type[FittedHead]) -> None:
    """Add a kind of head; `optimizer=name` then asks for it.

    Parameters
    ----------
    name : str
        Name for `optimizer`.
    fit : callable
        Called as `fit_linear` is: `fit(features, targets, objective, l2=..., sample_weight=...,
        max_iter=..., validation=...)`. Returns the fitted head.
    head : subclass of FittedHead
        Class of the fitted head. An archive holds its mean, scale, weights, l2, history and
        moments, nothing else.

    Raises
    ------
    InvalidParameterError
        If the name, or the `kind` of the class, is taken.
    """
    if name in _FITS or head.kind in _CLASSES:
        raise InvalidParameterError(f"There is a kind of head {name!r} or {head.kind!r} already.")
    _FITS[name], _CLASSES[head.kind] = fit, head


def fit_of(name: str) -> Callable[..., FittedHead]:
    """Return the function that fits heads of this name."""
    return _FITS[name]


def fit_names() -> tuple[str, ...]:
    """Return the names that `optimizer` may have besides those of Keras."""
    return tuple(_FITS)


def reads_blocks(name: str) -> bool:
    """Return whether heads of this name can be fitted to features in a file."""
    return name in (LBFGS, RIDGE)


def head_class(kind: str) -> type[FittedHead] | None:
    """Return the class of a registered kind of head."""
    return _CLASSES.get(kind)
