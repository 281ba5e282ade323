"""Heads as facts and arrays, and back."""

from __future__ import annotations

import dataclasses
import itertools
import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.estimators.recipes import FITTED_SCALINGS
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.features.frozen import Prefix
from transferclf.heads.history import PARTS, UNITS, Phase, Phases, phases_of
from transferclf.heads.linear import LinearHead
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.persistence.archive import StoredArrays
from transferclf.persistence.facts import Facts, as_archive_error, measured_text
from transferclf.persistence.parameters import ACTIVATIONS, check_activation
from transferclf.persistence.prefixes import features_below
from transferclf.training.phases import TrainedSuffix
from transferclf.training.trainer import trainer_for

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling

Head = LinearHead | TrainedSuffix
Arrays = dict[str, np.ndarray]


def head_facts(head: Head, arrays: Arrays) -> dict[str, Any]:
    """Return facts for `restored_head`, and add arrays to `arrays`.

    What an optimizer remembers of training is not saved: predictions do not need it.
    """
    arrays |= {"head/mean": head.mean, "head/scale": head.scale}
    kind = next(name for name, known in KINDS.items() if type(head) is known.made)
    return {
        "kind": kind,
        "l2": head.l2,
        "history": {name: measured_text(values) for name, values in head.history.items()},
        "moments": _moments_facts(head.moments, arrays),
    } | KINDS[kind].facts(head, arrays)


def _linear_facts(head: LinearHead, arrays: Arrays) -> dict[str, Any]:
    arrays |= {"head/coef": head.coef, "head/intercept": head.intercept}
    return {}


def _trained_facts(head: TrainedSuffix, arrays: Arrays) -> dict[str, Any]:
    suffix = head.suffix
    if suffix.head is not None:
        raise InvalidParameterError(
            "head is code of your own, which an archive cannot hold; pickle the estimator instead."
        )
    check_activation(suffix)
    arrays |= {f"head/parameters/{n}": value for n, value in enumerate(head.parameters)}
    if head.scaling is not None:
        arrays |= {"scaling/mean": head.scaling.mean, "scaling/factor": head.scaling.factor}
    return {
        "is_on_features": suffix.prefix is None,
        "width": suffix.width,
        "hidden_units": list(suffix.hidden_units),
        "activation": suffix.activation,
        "batch_norm": suffix.batch_norm,
        "has_dropout": suffix.dropout,
        "has_l1": suffix.l1,
        "has_l2": suffix.l2,
        "scaling": suffix.scaling,
        "dropout": list(head.dropout),
        "epochs_done": head.epochs_done,
        "n_head_iter": head.n_head_iter,
        "n_parameters": len(head.parameters),
        "phases": [dataclasses.asdict(phase) for phase in head.phases],
    }


def _moments_facts(moments: Moments | None, arrays: Arrays) -> dict[str, Any] | None:
    """Return facts of what `partial_fit` goes on from; the mean is "head/mean"."""
    if moments is None:
        return None
    arrays["head/variance"] = moments.variance
    names = ("count", "n_images", "rounding")
    return {name: getattr(moments, name) for name in names}


@dataclasses.dataclass(frozen=True)
class _Common:
    """What all kinds of heads have in an archive."""

    mean: np.ndarray
    scale: np.ndarray
    l2: float
    history: dict[str, list[float]]
    moments: Moments | None


def restored_head(facts: Facts, arrays: StoredArrays, n_classes: int, prefix: Prefix) -> Head:
    """Return the head of a classifier on the network `prefix`.

    ArchiveError is raised if the arrays are not those of such a head.
    """
    kind = KINDS[facts.text("kind", tuple(KINDS))]
    mean = arrays.take("head/mean", (None,))
    scale = arrays.take("head/scale", mean.shape)
    if (scale <= 0).any():
        raise ArchiveError("head/scale must be above zero everywhere.")
    l2, history = facts.number("l2"), _history(facts.part("history"))
    common = _Common(mean, scale, l2, history, _restored_moments(facts, arrays, mean))
    return kind.restored(facts, arrays, n_classes, prefix, common)


def _restored_linear(
    facts: Facts, arrays: StoredArrays, n_classes: int, prefix: Prefix, common: _Common
) -> LinearHead:
    facts.finish()
    if prefix.is_scratch:
        raise ArchiveError("a network from nothing has no linear head.")
    return LinearHead(
        **vars(common),
        coef=arrays.take("head/coef", (len(common.mean), n_classes)),
        intercept=arrays.take("head/intercept", (n_classes,)),
    )


def _restored_moments(facts: Facts, arrays: StoredArrays, mean: np.ndarray) -> Moments | None:
    # Archives of format 1 have no moments: the statistics of features then stay as they are.
    known = facts.part_or_none("moments") if "moments" in facts.names() else None
    if known is None:
        return None
    moments = Moments(
        mean=mean,
        variance=arrays.take("head/variance", mean.shape),
        count=known.number("count"),
        n_images=known.whole("n_images", 1),
        rounding=known.number("rounding"),
    )
    known.finish()
    if (moments.variance < 0).any() or moments.count <= 0 or not 0 < moments.rounding < 1:
        raise ArchiveError("moments must have a variance that is nowhere negative and a count.")
    return moments


def _restored_phases(
    facts: Facts, history: dict[str, list[float]], n_head_iter: int, parts: tuple[str, ...]
) -> Phases:
    if "phases" not in facts.names():  # archives of format 1
        return phases_of(history, n_head_iter, parts)
    phases = []
    for each in facts.parts("phases"):
        length = each.whole("length", 1)
        phases.append(
            Phase(
                part=each.text("part", PARTS),
                unit=each.text("unit", UNITS),
                length=length,
                kept=each.whole("kept", 0, length),
                stopped_early=each.flag("stopped_early"),
            )
        )
        each.finish()
    if sum(phase.length for phase in phases) != len(history["loss"]):
        raise ArchiveError("phases must be as long together as the history.")
    return tuple(phases)


def _history(facts: Facts) -> dict[str, list[float]]:
    if "loss" not in facts.names():
        raise ArchiveError("history must have the losses.")
    return {name: facts.measured(name) for name in facts.names()}


def _restored_trained(
    facts: Facts, arrays: StoredArrays, n_classes: int, prefix: Prefix, common: _Common
) -> TrainedSuffix:
    dropout, n_parameters = facts.rates("dropout"), facts.whole("n_parameters", 1)
    epochs_done, n_head_iter = facts.whole("epochs_done", 0), facts.whole("n_head_iter", 0)
    suffix = _suffix(facts, n_classes, prefix)
    parts = ("network",) if prefix.is_scratch else ("head", "fine-tuning")
    if suffix.prefix is None:
        parts = ("head",)
    phases = _restored_phases(facts, common.history, n_head_iter, parts)
    facts.finish()
    mean = common.mean
    if suffix.prefix is None and len(mean) != suffix.width:
        raise ArchiveError(
            f"head/mean must have shape ({suffix.width},). Got {mean.shape} instead."
        )
    scaling = _scaling(suffix.scaling, arrays, prefix.size)
    _check_bounds(suffix, arrays)
    parameters = arrays.take_all("head/parameters", n_parameters)
    return TrainedSuffix(
        **vars(common),
        suffix=suffix,
        parameters=parameters,
        weights=_head_weights(suffix, parameters),
        scaling=scaling,
        dropout=dropout,
        epochs_done=epochs_done,
        n_head_iter=n_head_iter,
        phases=phases,
    )


def _suffix(facts: Facts, n_classes: int, prefix: Prefix) -> Suffix:
    is_on_features = facts.flag("is_on_features")
    suffix = Suffix(
        n_classes=n_classes,
        hidden_units=facts.wholes("hidden_units", 1),
        activation=facts.text("activation", ACTIVATIONS),
        batch_norm=facts.text_or_none("batch_norm", ("before", "after")),
        dropout=facts.flag("has_dropout"),
        l1=facts.flag("has_l1"),
        l2=facts.flag("has_l2"),
        width=facts.whole("width", int(is_on_features)),
        prefix=None if is_on_features else prefix,
        scaling=facts.text_or_none("scaling", FITTED_SCALINGS),
    )
    if prefix.is_scratch if is_on_features else not prefix.is_cut:
        raise ArchiveError("what was learned does not fit where the network is cut.")
    if suffix.scaling is not None and not prefix.is_scratch:
        raise ArchiveError("only networks from nothing have pixels scaled as fitted.")
    return suffix


def _scaling(kind: str | None, arrays: StoredArrays, size: tuple[int, int]) -> PixelScaling | None:
    if kind is None:
        return None
    from transferclf.heads.whitening import PixelScaling

    shape = (3,) if kind == "standardize" else (*size, 3)
    mean = arrays.take("scaling/mean", shape)
    factor = arrays.take("scaling/factor", shape if kind == "standardize" else (mean.size,) * 2)
    return PixelScaling(kind, mean, factor)


def _check_bounds(suffix: Suffix, arrays: StoredArrays) -> None:
    """Raise ArchiveError if the head, when built, would be larger than what is in the archive."""
    below = suffix.width if suffix.prefix is None else features_below(suffix.prefix, arrays)
    widths = [below, *suffix.hidden_units, suffix.n_classes]
    n_weights = sum(before * after for before, after in itertools.pairwise(widths))
    if n_weights > arrays.n_numbers or len(widths) > arrays.n_arrays:
        raise ArchiveError(f"expected the weights of layers of {reprlib.repr(widths[1:])} units.")


def _head_weights(suffix: Suffix, parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the weights of the head among those of the network, if they fit the network."""
    with as_archive_error("there is no such network: "):
        trainer = trainer_for(suffix)
    with trainer.lock:
        network = trainer.network
        if [tuple(variable.shape) for variable in network.weights] != [p.shape for p in parameters]:
            raise ArchiveError(
                "the arrays are no weights of this network: their shapes are others."
            )
        trainer.set_parameters(parameters)
        return network.head_weights()


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of head: its class, how it is written, and how it is read."""

    made: type[Head]
    facts: Callable[..., dict[str, Any]]
    restored: Callable[[Facts, StoredArrays, int, Prefix, _Common], Head]


# The kinds by their names in archives.
KINDS = {
    "linear": _Kind(LinearHead, _linear_facts, _restored_linear),
    "trained": _Kind(TrainedSuffix, _trained_facts, _restored_trained),
}
