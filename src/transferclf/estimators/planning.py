"""The plan for training that a classifier's parameters mean, and which of them have no effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from transferclf.augmentation.recipe import Augmentation, augmentation_from
from transferclf.backbones.convnet import ConvNet
from transferclf.estimators.recipes import (
    FITTED_SCALINGS,
    Classifier,
    hidden_units,
    is_auto,
    is_by_lbfgs,
    own_schedule,
)
from transferclf.features.frozen import Prefix
from transferclf.heads.suffix import Suffix
from transferclf.training.memory import MANY_FEATURES, check_fits, fits, n_dense_weights
from transferclf.training.phases import TrainedSuffix
from transferclf.training.plan import Plan
from transferclf.training.recipe import Recipe
from transferclf.training.trainer import Method


def plan_for(
    classifier: Classifier,
    prefix: Prefix,
    n_classes: int,
    seed: int,
    *,
    has_validation: bool = False,
) -> Plan:
    """Make the plan of `fit`.

    It asks for a parameter only where the result depends on it, which is how a parameter without
    effect is found out.

    Parameters
    ----------
    classifier : TransferClassifier
        Or an object that has its parameters.
    prefix : Prefix
        The network and its cut.
    n_classes : int
        Number of classes.
    seed : int
        For initial weights, orders, dropout and augmentation.
    has_validation : bool, default=False
        Whether there are validation images, so that none are held out.
    """
    is_linear = not prefix.is_scratch and is_by_lbfgs(classifier)
    is_tuned = prefix.is_cut and not prefix.is_scratch
    augmentation = augmentation_from(classifier.augmentation)
    afresh = augmentation if prefix.is_empty else None
    head = None if is_linear else _head_recipe(classifier, prefix, seed, afresh)
    tuning = _fine_tuning(classifier, seed, afresh) if is_tuned else None
    holds_out = _stops_early(head) or _stops_early(tuning)
    return replace(
        _untrained_plan(classifier, prefix, n_classes, seed, augmentation),
        head=head,
        fine_tuning=tuning,
        max_iter=int(classifier.max_iter) if is_linear else None,
        validation_fraction=(
            classifier.validation_fraction if holds_out and not has_validation else None
        ),
    )


def partial_plan(
    classifier: Classifier, prefix: Prefix, n_classes: int, seed: int, previous: Any
) -> Plan:
    """Make the plan of `partial_fit`: one epoch, by the optimizer as it was left."""
    is_going_on = isinstance(previous, TrainedSuffix) and previous.checkpoint is not None
    epochs = previous.epochs_done + 1 if is_going_on else 1
    # Neither patience nor a schedule has an end to look to.
    recipe = replace(
        _common_recipe(classifier, seed, None),
        epochs=epochs,
        learning_rate=_rate(classifier),
        patience=None,
        schedule=None,
    )
    augmentation = augmentation_from(classifier.augmentation)
    plan = _untrained_plan(classifier, prefix, n_classes, seed, augmentation)
    return replace(plan, head=recipe, is_partial=True)


def _untrained_plan(
    classifier: Classifier,
    prefix: Prefix,
    n_classes: int,
    seed: int,
    augmentation: Augmentation | None,
) -> Plan:
    """What is to be learned, without the recipes."""
    scaling = classifier.preprocessing if classifier.preprocessing in FITTED_SCALINGS else None
    units = hidden_units(classifier)
    map_shape = () if classifier.head is None else prefix.map_shape()
    suffix = Suffix(
        n_classes,
        units,
        head=None if classifier.head is None else _head_graph(classifier.head, map_shape, seed),
        map_shape=map_shape,
        scaling=scaling,
        seed=seed if classifier.head is not None else 0,
    )
    if units:
        layers = {"activation": classifier.activation, "batch_norm": classifier.batch_norm}
        suffix = replace(suffix, **layers)
    l2 = None if is_auto(classifier.l2) else float(classifier.l2)
    plan = Plan(prefix, suffix, None, None, l2, None, augmentation)
    return replace(plan, zca_epsilon=float(classifier.zca_epsilon)) if scaling == "zca" else plan


def _head_graph(head: Any, map_shape: tuple[int, ...], seed: int) -> Any:
    # Only whoever has a head of their own needs Keras here.
    from transferclf.heads.own import head_graph

    return head_graph(head, map_shape, seed)


def _stops_early(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.patience is not None


def _head_recipe(
    classifier: Classifier, prefix: Prefix, seed: int, augmentation: Augmentation | None
) -> Recipe:
    """For the head on features, or for a whole network from random weights, on its pixels."""
    is_scratch = prefix.is_scratch
    return replace(
        _common_recipe(classifier, seed, augmentation if is_scratch else None),
        learning_rate=_rate(classifier),
        epochs=int(classifier.epochs),
        part="network" if is_scratch else "head",
    )


def _fine_tuning(classifier: Classifier, seed: int, augmentation: Augmentation | None) -> Recipe:
    recipe = _common_recipe(classifier, seed, augmentation)
    decay = 1.0 if classifier.layer_decay is None else float(classifier.layer_decay)
    return replace(
        recipe,
        method=replace(recipe.method, layer_decay=decay),
        learning_rate=float(classifier.fine_tune_learning_rate),
        epochs=int(classifier.fine_tune_epochs),
        part="fine-tuning",
    )


def _common_recipe(classifier: Classifier, seed: int, augmentation: Augmentation | None) -> Recipe:
    """What training by a Keras optimizer has in common; without epochs and learning rate."""
    dropout = np.broadcast_to(classifier.dropout, max(len(hidden_units(classifier)), 1))
    optimizer, schedule = _optimizer(classifier.optimizer), classifier.lr_schedule
    if not isinstance(optimizer, str) and schedule is None:
        schedule = own_schedule(optimizer)
    return Recipe(
        Method(optimizer, augmentation),
        None,
        0,
        int(classifier.batch_size),
        float(classifier.l1),
        dropout=tuple(dropout.astype(float).tolist()),
        schedule=schedule,
        patience=int(classifier.patience) if classifier.early_stopping else None,
        callbacks=tuple(classifier.callbacks or ()),
        seed=seed,
    )


def _rate(classifier: Classifier) -> float | None:
    return None if classifier.learning_rate is None else float(classifier.learning_rate)


def _optimizer(optimizer: Any) -> Any:
    if isinstance(optimizer, str):
        return "adam" if optimizer in ("auto", "lbfgs") else optimizer
    return type(optimizer).from_config(optimizer.get_config())


def check_memory(classifier: Classifier, prefix: Prefix, n_classes: int) -> None:
    """Raise InvalidParameterError if what is trained cannot fit into memory, before long work.

    Layers of a pretrained backbone and a head of the user's own are not counted.
    """
    widths = [*hidden_units(classifier), n_classes]
    if isinstance(classifier.backbone, ConvNet):
        network = classifier.backbone
        below = network.n_kernel_weights(*prefix.size, 3)
        n_weights = below + n_dense_weights([network.n_features, *widths])
        check_fits(n_weights, "the network", "Take fewer filters, dense_units or hidden_units.")
    elif len(widths) > 1:
        what, hint = f"a head with hidden_units={tuple(widths[:-1])}", "Take fewer units."
        check_fits(n_dense_weights([1, *widths]), what, hint)
        # How many features there are is known when the network is built, which takes a while.
        if not fits(n_dense_weights([MANY_FEATURES[prefix.pooling], *widths])):
            n_features = sum(prefix.whole().widths())
            what = f"{what} on {n_features:,} features"
            check_fits(n_dense_weights([n_features, *widths]), what, hint)
