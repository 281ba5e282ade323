"""The choice behind trainable_layers="auto": its options, and the images of its trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from transferclf.backbones.convnet import ConvNet
from transferclf.estimators.parameters import Parameters
from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError
from transferclf.features.choosing import check_can_train
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.graphs.isolation import undisturbed
from transferclf.heads.fitted import FittedHead
from transferclf.training.choosing_cut import Candidate, Choice, choose_cut, told
from transferclf.training.learning import Learner
from transferclf.training.plan import Images, Plan, split

# Differences between fewer images say nothing.
LEAST_HELD_OUT = 5

Tuning = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """Parameters of a fit with the network and cut that they mean.

    `work` is the share of the network's work that is trained.
    """

    parameters: Parameters
    prefix: Prefix
    work: float = 0.0


def options_for(
    parameters: Parameters, prefix: Prefix, former: Tuning | None
) -> tuple[list[Option], Tuning | None]:
    """Return the options of a fit, and the value of `tuning_` if there is but one.

    There are several only where `trainable_layers` is "auto": first the frozen network, then cuts,
    the one with the fewest layers first. `former` is the choice of the fit that this one goes on
    from.
    """
    if parameters.trainable_layers != "auto":
        return [Option(parameters, prefix)], None
    if former is not None:
        return [_with(parameters, prefix, former)], former
    _check_is_pretrained(parameters, prefix)
    options, reason = [Option(_frozen_parameters(parameters), prefix)], ""
    for layers, work in _cuts(prefix):
        cut = prefix.changed(trainable_layers=layers)
        try:
            check_can_train(cut)
        except NetworkError as error:
            reason = str(error)
        else:
            options.append(Option(replace(parameters, trainable_layers=layers), cut, work))
    if not prefix.backbone.can_be_cut:
        network = f"{prefix.backbone.name!r} is {prefix.backbone.kind_in_words}"
        reason = f"{network}, which cannot be cut"
    reason = reason or f"{prefix.backbone.name!r} has no weights to train"
    return options, _frozen(reason, parameters) if len(options) == 1 else None


class Chosen(NamedTuple):
    """The plan of a fit, the value of `tuning_`, and the result if trials have it already."""

    plan: Plan
    tuning: Tuning | None = None
    head: FittedHead | None = None


def choose(
    options: Sequence[Option],
    plans: Sequence[Plan],
    images: Images,
    validation: Images | None,
    previous: FittedHead | None,
    read: Extractor,
    seed: int,
) -> Chosen:
    """Return the best of the plans by trials on the images."""
    parameters, tuned = options[0].parameters, plans[-1]
    holds_out = validation is not None or tuned.validation_fraction is not None
    # Then the trial of a plan is the fit itself.
    is_final = holds_out and previous is None and not parameters.callbacks
    try:
        train, held_out = _held_out(images, validation, tuned, parameters, seed)
    except _TooFewError as error:
        return Chosen(plans[0], _frozen(str(error), parameters))
    verbose, part, tried = int(parameters.verbose), 1.0, list(plans)
    if not is_final:
        train, part, tried = _halved(train, plans)
    learners = [
        Learner(
            plan,
            train,
            read,
            validation=held_out,
            holds_out=validation is None,
            verbose=verbose if is_final else 0,
        )
        for plan in tried
    ]
    pairs = zip(learners[1:], options[1:], strict=True)
    candidates = [Candidate(learner, option.work, part) for learner, option in pairs]
    dearest = candidates[-1].cost  # views of the images may make a cut dearer than all layers
    candidates = [each for each in candidates[:-1] if each.cost < dearest] + candidates[-1:]
    choice = choose_cut(learners[0], candidates, verbose, has_mean=is_final)
    number = next(
        n for n, plan in enumerate(plans) if plan.prefix.trainable_layers == choice.layers
    )
    head = choice.head if is_final and number else None
    return Chosen(plans[number], choice.facts(tuned.suffix.objective.measure), head)


class _TooFewError(Exception):
    """There are too few images to hold some out."""


def _held_out(
    images: Images, validation: Images | None, plan: Plan, parameters: Parameters, seed: int
) -> tuple[Images, Images]:
    """Return the images to train on in trials, and those to judge by: as fine-tuning does it."""
    if plan.validation_fraction is None and validation is None:
        plan = replace(plan, validation_fraction=parameters.validation_fraction)
    oversample = getattr(parameters, "oversample", False)
    try:
        train, held_out, _ = split(images, plan, seed, oversample, is_needed=True)
    except ImageError:
        raise
    except ValueError as error:
        raise _TooFewError(f"no images can be held out for trials: {error}") from error
    held_out = validation or held_out
    assert held_out is not None
    n_held_out = np.count_nonzero(held_out.weights)
    if n_held_out < LEAST_HELD_OUT:
        raise _TooFewError(
            f"only {n_held_out} images can be held out for trials, and {LEAST_HELD_OUT} are needed"
        )
    return train, held_out


def _halved(train: Images, plans: Sequence[Plan]) -> tuple[Images, float, list[Plan]]:
    """Return images and plans of half the steps, their share of the steps, and the plans.

    The chosen plan is then carried out once more: that is two fine-tunings at most.
    """
    recipe = plans[-1].fine_tuning
    assert recipe is not None
    epochs = recipe.epochs_for(train.n_samples)
    half, part = epochs // 2, (epochs // 2) / epochs
    if not half:
        positions = np.arange(len(train.targets)) if train.positions is None else train.positions
        order = np.random.default_rng(recipe.seed).permutation(len(positions))
        train = replace(train, positions=positions[order[: -(-len(order) // 2)]])
        half, part = 1, 0.5
    shorter = [
        replace(
            plan,
            head=plan.head and replace(plan.head, callbacks=()),
            fine_tuning=plan.fine_tuning and replace(plan.fine_tuning, callbacks=(), epochs=half),
        )
        for plan in plans
    ]
    return train, part, shorter


def _check_is_pretrained(parameters: Parameters, prefix: Prefix) -> None:
    network = None
    if isinstance(parameters.backbone, ConvNet):
        network = "a ConvNet"
    elif prefix.backbone.can_be_cut and prefix.model is None and prefix.weights is None:
        network = f"{prefix.backbone.name!r} with weights=None"
    if network is not None:
        raise InvalidParameterError(
            "trainable_layers='auto' chooses how much of a pretrained network is trained. "
            f"{network} starts from random weights: set trainable_layers='all'."
        )


def _with(parameters: Parameters, prefix: Prefix, former: Tuning) -> Option:
    """Return the option that an earlier fit chose."""
    names = ("trainable_layers", "fine_tune_learning_rate")
    chosen: dict[str, Any] = {name: former[name] for name in names if former[name] is not None}
    return Option(
        replace(parameters, **chosen), prefix.changed(trainable_layers=chosen["trainable_layers"])
    )


def _frozen_parameters(parameters: Parameters) -> Parameters:
    """Return the parameters of a frozen network; what a linear fit cannot mix is not mixed."""
    frozen, recipe = replace(parameters, trainable_layers=0), parameters.recipe_of_views
    if recipe is None or recipe.of_activations is None or frozen.fit_without_keras is None:
        return frozen
    return replace(frozen, augmentation=recipe.of_views)


def _frozen(reason: str, parameters: Parameters) -> Tuning:
    return told(Choice(0, None, reason), int(parameters.verbose)).facts("")


# The cuts of networks by the digests of their prefixes.
_known_cuts: dict[str, list[tuple[int | str, float]]] = {}


def _cuts(prefix: Prefix) -> list[tuple[int | str, float]]:
    """Return the last block and "all", with the share of the work above them."""
    if not prefix.backbone.can_be_cut:
        return []
    key = prefix.digest
    if key not in _known_cuts:
        _known_cuts[key] = list(_found_cuts(prefix))
    return _known_cuts[key]


def _found_cuts(prefix: Prefix) -> Iterator[tuple[int | str, float]]:
    with undisturbed():
        from transferclf.features.flat import flat_network
        from transferclf.graphs.blocks import Parts

        parts = Parts(flat_network(prefix.network(), prefix.size, prefix.preprocessing))
        block = parts.last_block()
    if block is not None:
        yield block, parts.above(block).work
    if parts.above("all").weights:
        yield "all", 1.0
