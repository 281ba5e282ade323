"""Write a fitted head as facts and arrays, and read it back."""

from __future__ import annotations

import dataclasses
import itertools
import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.features.frozen import Prefix
from transferclf.heads.fitted import FittedHead
from transferclf.heads.history import PARTS, UNITS, Phase, Phases, phases_of
from transferclf.heads.linear import LinearHead, linear_head
from transferclf.heads.registry import head_class
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import PIXEL_SCALINGS, Suffix
from transferclf.objectives import Objective
from transferclf.persistence.archive import Arrays, StoredArrays
from transferclf.persistence.facts import Facts, Written, as_archive_error, measured_text
from transferclf.persistence.parameters import ACTIVATIONS, check_activation
from transferclf.persistence.prefixes import features_below
from transferclf.training.phases import TrainedSuffix
from transferclf.training.trainer import trainer_for

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling


def head_facts(head: FittedHead, arrays: Arrays) -> Written:
    """Return facts for :func:`restored_head`, and add arrays to `arrays`.

    The state of an optimizer is left out: it is not needed to predict.
    """
    arrays |= {"head/mean": head.mean, "head/scale": head.scale}
    moments, known = head.moments, None
    if moments is not None:
        arrays["head/variance"] = moments.variance
        known = {name: getattr(moments, name) for name in ("count", "n_images", "rounding")}
    facts: Written = {
        "l2": head.l2,
        "history": {name: measured_text(values) for name, values in head.history.items()},
        "moments": known,
    }
    kind = head.kind if head.kind in KINDS else "registered"
    write, _ = KINDS[kind]
    return {"kind": kind} | facts | write(head, arrays)


def _linear_facts(head: FittedHead, arrays: Arrays) -> Written:
    arrays |= dict(zip(("head/coef", "head/intercept"), head.weights, strict=True))
    return {}


def _registered_facts(head: FittedHead, arrays: Arrays) -> Written:
    """Write a head of a kind that was added by `register_head`."""
    arrays |= {f"head/weights/{n}": value for n, value in enumerate(head.weights)}
    return {"class": head.kind, "n_weights": len(head.weights)}


def _trained_facts(head: TrainedSuffix, arrays: Arrays) -> Written:
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
        "soup": head.soup,
        "is_folded": suffix.is_folded,
        "n_parameters": len(head.parameters),
        "phases": [dataclasses.asdict(phase) for phase in head.phases],
    }


@dataclasses.dataclass(frozen=True)
class Common:
    """The part of a head that all kinds have; the same names as in FittedHead."""

    mean: np.ndarray
    scale: np.ndarray
    l2: float
    history: dict[str, list[float]]
    moments: Moments | None


def restored_head(
    facts: Facts, arrays: StoredArrays, objective: Objective, prefix: Prefix
) -> FittedHead:
    """Return a fitted head; the inverse of `head_facts`.

    Raises ArchiveError if the arrays are not those of such a head.
    """
    _, read = KINDS[facts.text("kind", tuple(KINDS))]
    mean = arrays.take("head/mean", (None,))
    scale = arrays.take("head/scale", mean.shape)
    if (scale <= 0).any():
        raise ArchiveError("head/scale must be above zero everywhere.")
    l2, losses = facts.number("l2"), facts.part("history")
    history = {name: losses.measured(name) for name in losses.names()}
    if "loss" not in history:
        raise ArchiveError("history must have the losses.")
    common = Common(mean, scale, l2, history, _restored_moments(facts, arrays, mean))
    return read(facts, arrays, objective, prefix, common)


def _restored_linear(
    facts: Facts, arrays: StoredArrays, objective: Objective, prefix: Prefix, common: Common
) -> LinearHead:
    facts.finish()
    if prefix.is_scratch:
        raise ArchiveError("a network trained from random weights has no linear head.")
    coef = arrays.take("head/coef", (len(common.mean), objective.n_outputs))
    intercept = arrays.take("head/intercept", (objective.n_outputs,))
    return linear_head(objective, coef=coef, intercept=intercept, **vars(common))


def _restored_registered(
    facts: Facts, arrays: StoredArrays, objective: Objective, prefix: Prefix, common: Common
) -> FittedHead:
    made, n_weights = head_class(facts.text("class")), facts.whole("n_weights", 0)
    facts.finish()
    if made is None or prefix.is_scratch:
        raise ArchiveError("there is no such kind of head here: register_head it first.")
    weights = arrays.take_all("head/weights", n_weights)
    n_iter = len(common.history["loss"])
    phases = (Phase("head", UNITS[0], n_iter, n_iter),)
    return made(suffix=Suffix(objective), weights=weights, phases=phases, **vars(common))


def _restored_moments(facts: Facts, arrays: StoredArrays, mean: np.ndarray) -> Moments | None:
    # Archives of format 1 have none. Their features stay standardised as they are.
    known = facts.or_none(facts.part, "moments") if "moments" in facts.names() else None
    if known is None:
        return None
    variance = arrays.take("head/variance", mean.shape)
    n_images, rounding = known.whole("n_images", 1), known.number("rounding")
    moments = Moments(mean, variance, known.number("count"), n_images, rounding)
    known.finish()
    if (variance < 0).any() or moments.count <= 0 or not 0 < moments.rounding < 1:
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
        part, unit = each.text("part", PARTS), each.text("unit", UNITS)
        kept = each.whole("kept", 0, length)
        phases.append(Phase(part, unit, length, kept, each.flag("stopped_early")))
        each.finish()
    if sum(phase.length for phase in phases) != len(history["loss"]):
        raise ArchiveError("phases must be as long together as the history.")
    return tuple(phases)


def _restored_suffix(
    facts: Facts, arrays: StoredArrays, objective: Objective, prefix: Prefix, common: Common
) -> TrainedSuffix:
    dropout, n_parameters = facts.rates("dropout"), facts.whole("n_parameters", 1)
    epochs_done, n_head_iter = facts.whole("epochs_done", 0), facts.whole("n_head_iter", 0)
    # Archives of older versions have neither.
    soup = facts.number("soup") if "soup" in facts.names() else 1.0
    suffix = _suffix(facts, objective, prefix)
    parts: tuple[str, ...] = ("head",) if suffix.prefix is None else ("head", "fine-tuning")
    parts = ("network",) if prefix.is_scratch else parts
    phases = _restored_phases(facts, common.history, n_head_iter, parts)
    facts.finish()
    if suffix.prefix is None and len(common.mean) != suffix.width:
        raise ArchiveError(f"head/mean must have shape ({suffix.width},). Got {common.mean.shape}.")
    scaling = _scaling(suffix.scaling, arrays, prefix.size)
    _check_bounds(suffix, arrays)
    parameters = arrays.take_all("head/parameters", n_parameters)
    return TrainedSuffix(
        suffix=suffix,
        weights=_head_weights(suffix, parameters),
        phases=phases,
        parameters=parameters,
        scaling=scaling,
        dropout=dropout,
        epochs_done=epochs_done,
        n_head_iter=n_head_iter,
        soup=soup,
        **vars(common),
    )


def _suffix(facts: Facts, objective: Objective, prefix: Prefix) -> Suffix:
    is_on_features = facts.flag("is_on_features")
    suffix = Suffix(
        objective,
        facts.wholes("hidden_units", 1),
        facts.text("activation", ACTIVATIONS),
        facts.or_none(facts.text, "batch_norm", ("before", "after")),
        dropout=facts.flag("has_dropout"),
        l1=facts.flag("has_l1"),
        l2=facts.flag("has_l2"),
        width=facts.whole("width", int(is_on_features)),
        prefix=None if is_on_features else prefix,
        scaling=facts.or_none(facts.text, "scaling", PIXEL_SCALINGS),
        is_folded=facts.flag("is_folded") if "is_folded" in facts.names() else False,
    )
    if prefix.is_scratch if is_on_features else not prefix.is_cut:
        raise ArchiveError("the head does not fit the cut of the network.")
    if suffix.scaling is not None and not prefix.is_scratch:
        raise ArchiveError("only networks trained from random weights have fitted pixel scaling.")
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
    """Raise ArchiveError if the built head would be larger than the archive."""
    below = suffix.width if suffix.prefix is None else features_below(suffix.prefix, arrays)
    widths = [below, *suffix.hidden_units, suffix.n_outputs]
    n_weights = sum(before * after for before, after in itertools.pairwise(widths))
    if n_weights > arrays.n_numbers or len(widths) > arrays.n_arrays:
        raise ArchiveError(f"expected the weights of layers of {reprlib.repr(widths[1:])} units.")


def _head_weights(suffix: Suffix, parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the weights of the head among those of the suffix."""
    with as_archive_error("there is no such network: "):
        trainer = trainer_for(suffix)
    with trainer.lock:
        network = trainer.network
        if [tuple(variable.shape) for variable in network.weights] != [p.shape for p in parameters]:
            raise ArchiveError("the arrays fit no such network: their shapes are others.")
        trainer.set_parameters(parameters)
        return network.head_weights()


# How each kind of head is written and read.
KINDS: dict[str, tuple[Callable[..., Written], Callable[..., FittedHead]]] = {
    LinearHead.kind: (_linear_facts, _restored_linear),
    TrainedSuffix.kind: (_trained_facts, _restored_suffix),
    "registered": (_registered_facts, _restored_registered),
}
