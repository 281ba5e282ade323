"""The plan for training that follows from the parameters of a classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transferclf.augmentation.recipe import Augmentation
from transferclf.backbones.convnet import ConvNet
from transferclf.estimators.effects import Asked
from transferclf.estimators.keras_objects import schedule_of
from transferclf.estimators.parameters import Parameters
from transferclf.features.frozen import Prefix
from transferclf.heads.fitted import FittedHead
from transferclf.heads.registry import LBFGS, RIDGE, fit_names, reads_blocks
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Objective
from transferclf.training.memory import MANY_FEATURES, bytes_of, check_fits, fits, n_dense_weights
from transferclf.training.plan import Plan, runs_prefix
from transferclf.training.recipe import Method, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transferclf.estimators.tuning import Option


def plans_for(
    options: Sequence[Option], objective: Objective, seed: int, has_validation: bool
) -> tuple[list[Plan], set[str]]:
    """Return the plan of each option, and the names of all parameters that the plans depend on."""
    plans, used = [], set()
    for option in options:
        asked = Asked(option.parameters)
        prefix = option.prefix
        plans.append(plan_for(asked, prefix, objective, seed, has_validation=has_validation))
        used |= asked.names
    return plans, used


def plan_for(
    parameters: Parameters | Asked,
    prefix: Prefix,
    objective: Objective,
    seed: int,
    *,
    has_validation: bool = False,
) -> Plan:
    """Return the plan of `fit`.

    It reads a parameter only where the result depends on it, so that `Asked` finds the parameters
    without effect. `has_validation` says that there are validation images, so that none are held
    out.
    """
    fit = None if prefix.is_scratch else parameters.fit_without_keras
    afresh = _afresh(parameters, prefix)
    head = tuning = None
    if fit is None:
        is_scratch = prefix.is_scratch
        is_last = is_scratch or not prefix.is_cut
        head = replace(
            _common_recipe(parameters, seed, afresh if is_last else None),
            learning_rate=parameters.rate,
            epochs=int(parameters.epochs),
            part="network" if is_scratch else "head",
        )
    if prefix.is_cut and not prefix.is_scratch:
        tuning = _fine_tuning(parameters, seed, afresh)
        from_pixels = runs_prefix(parameters.recipe_of_views, prefix)
        tuning = replace(tuning, method=replace(tuning.method, runs_prefix=from_pixels))
    # Heads of kinds that were registered, and those of the user's own, get features in memory.
    may_be_in_file = prefix.is_cut or (
        parameters.head is None if fit is None else reads_blocks(fit)
    )
    recipes = [recipe for recipe in (head, tuning) if recipe]
    compares = any(it.patience is not None or it.soup == "auto" for it in recipes)
    holds_out = compares and not has_validation
    return replace(
        _untrained_plan(parameters, prefix, objective, seed),
        fit=fit or LBFGS,
        head=head,
        fine_tuning=tuning,
        max_iter=None if fit in (None, RIDGE) else int(parameters.max_iter),
        validation_fraction=parameters.validation_fraction if holds_out else None,
        max_memory=bytes_of(parameters.max_memory) if may_be_in_file else None,
    )


def partial_plan(
    parameters: Parameters,
    prefix: Prefix,
    objective: Objective,
    seed: int,
    previous: FittedHead | None,
) -> Plan:
    """Return the plan of `partial_fit`: one epoch, by the optimizer as it was left."""
    is_going_on = previous is not None and previous.checkpoint is not None
    epochs = previous.epochs_done + 1 if previous is not None and is_going_on else 1
    # The number of epochs to come is not known, so that neither patience nor a schedule counts.
    recipe = replace(
        _common_recipe(parameters, seed, _afresh(parameters, prefix)),
        epochs=epochs,
        learning_rate=parameters.rate,
        patience=None,
        schedule=None,
    )
    plan = _untrained_plan(parameters, prefix, objective, seed)
    return replace(plan, head=recipe, is_partial=True)


def _afresh(parameters: Parameters | Asked, prefix: Prefix) -> Augmentation | None:
    """Return how every batch is varied: all of a recipe suits pixels, and some activations."""
    recipe = parameters.recipe_of_views
    is_on_pixels = prefix.is_empty or runs_prefix(recipe, prefix)
    return recipe if recipe is None or is_on_pixels else recipe.of_activations


def _untrained_plan(
    parameters: Parameters | Asked, prefix: Prefix, objective: Objective, seed: int
) -> Plan:
    """Return the plan without recipes."""
    scaling = parameters.fitted_scaling
    suffix = Suffix(objective, parameters.units, scaling=scaling)
    if parameters.head is not None:
        map_shape = prefix.map_shape()
        # Only a head of the user's own needs Keras here.
        from transferclf.heads.own import head_graph

        graph = head_graph(parameters.head, map_shape, seed)
        suffix = replace(suffix, head=graph, map_shape=map_shape, seed=seed)
    if suffix.hidden_units:
        activation, batch_norm = parameters.activation, parameters.batch_norm
        suffix = replace(suffix, activation=activation, batch_norm=batch_norm)
    plan = Plan(
        prefix=prefix,
        suffix=suffix,
        l2=parameters.penalty,
        augmentation=parameters.recipe_of_views,
    )
    return replace(plan, zca_epsilon=float(parameters.zca_epsilon)) if scaling == "zca" else plan


def _fine_tuning(
    parameters: Parameters | Asked, seed: int, augmentation: Augmentation | None
) -> Recipe:
    recipe = _common_recipe(parameters, seed, augmentation)
    method, schedule = recipe.method, recipe.schedule
    if isinstance(parameters.optimizer, str):
        optimizer = "adamw" if parameters.optimizer in ("auto", *fit_names()) else method.optimizer
        clipnorm = parameters.global_clipnorm
        method = replace(
            method,
            optimizer=optimizer,
            weight_decay=float(parameters.weight_decay),
            global_clipnorm=None if clipnorm is None else float(clipnorm),
        )
        schedule = parameters.schedules[1]
    decay = 1.0 if parameters.layer_decay is None else float(parameters.layer_decay)
    rises = isinstance(schedule, str) and schedule != "plateau"
    return replace(
        recipe,
        method=replace(method, layer_decay=decay),
        learning_rate=float(parameters.fine_tune_learning_rate),
        epochs=parameters.least_epochs,
        batch_size=parameters.batch_sizes[1],
        schedule=schedule,
        warmup=float(parameters.warmup_fraction) if rises else 0.0,
        soup=parameters.soup if isinstance(parameters.soup, str) else float(parameters.soup),
        part="fine-tuning",
    )


def _common_recipe(
    parameters: Parameters | Asked, seed: int, augmentation: Augmentation | None
) -> Recipe:
    """Return a recipe for any training by Keras, without epochs and learning rate."""
    optimizer, schedule = parameters.optimizer, parameters.schedules[0]
    if optimizer in ("auto", *fit_names()):
        optimizer = "adam"
    elif not isinstance(optimizer, str):
        optimizer = type(optimizer).from_config(optimizer.get_config())
        schedule = schedule_of(optimizer) if schedule is None else schedule
    return Recipe(
        method=Method(optimizer, augmentation),
        learning_rate=None,
        epochs=0,
        batch_size=parameters.batch_sizes[0],
        l1=float(parameters.l1),
        dropout=parameters.dropout_rates,
        schedule=schedule,
        patience=int(parameters.patience) if parameters.early_stopping else None,
        callbacks=tuple(parameters.callbacks or ()),
        seed=seed,
    )


def check_memory(parameters: Parameters, prefix: Prefix, n_outputs: int) -> None:
    """Raise InvalidParameterError if the trained part cannot fit into memory, before long work.

    Layers of a pretrained backbone and a head of the user's own are not counted.
    """
    widths = [*parameters.units, n_outputs]
    if isinstance(parameters.backbone, ConvNet):
        network = parameters.backbone
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
