"""What an estimator's parameters mean for training: which suffix, by which recipe.

First the head is fitted to the features of the whole frozen network; then, if layers of the
backbone are to be trained, head and layers together on the activations at the cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transferclf.networks.prefix import Prefix
from transferclf.networks.suffix import Suffix
from transferclf.training.linear import LinearHead, few_threads, fit_linear
from transferclf.training.phases import Recipe, TrainedSuffix, fit_phase
from transferclf.training.scaling import mean_and_scale


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    shape: Suffix,
    recipe: Recipe,
    *,
    max_iter: int = 1000,
    verbose: int = 0,
) -> LinearHead | TrainedSuffix:
    """Fit a head to features: by L-BFGS where the recipe's optimizer is "lbfgs", else by Keras.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32
        Features of the whole frozen network.
    labels : ndarray of int, shape (n,)
        Class indices.
    weights : ndarray of shape (n,)
        Weight of each sample.
    shape : Suffix
        Classes, hidden layers and activation; the rest follows from the recipe and the data.
    recipe : Recipe
        How.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    LinearHead or TrainedSuffix
        Both give `logits` and `probabilities` of features.
    """
    if recipe.optimizer == "lbfgs":
        head = fit_linear(
            features,
            labels,
            shape.n_classes,
            l2=recipe.l2,
            sample_weight=weights,
            max_iter=max_iter,
        )
        if verbose:
            losses = head.history["loss"]
            print(f"linear head: {len(losses)} iterations, loss {losses[-1]:.4f}")
        return head
    suffix = replace(_suffix(shape, recipe), width=features.shape[1])
    with few_threads(features.size):
        mean, scale = mean_and_scale(features, weights)
    return fit_phase(
        suffix, recipe, features, labels, weights, mean=mean, scale=scale, verbose=verbose
    )


def fine_tune(
    head: LinearHead | TrainedSuffix,
    prefix: Prefix,
    activations: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    shape: Suffix,
    recipe: Recipe,
    *,
    verbose: int = 0,
) -> TrainedSuffix:
    """Train a fitted head and the layers above the cut together.

    Parameters
    ----------
    head : LinearHead or TrainedSuffix
        Where the head starts from; its history is continued.
    prefix : Prefix
        The network and its cut.
    activations : ndarray of shape (n, d), float32
        Of the training images at the cut.
    labels, weights, shape, recipe, verbose
        As for :func:`fit_head`.

    Returns
    -------
    TrainedSuffix
        Gives `logits` and `probabilities` of activations at the cut.
    """
    trained = fit_phase(
        replace(_suffix(shape, recipe), prefix=prefix),
        recipe,
        activations,
        labels,
        weights,
        mean=head.mean,
        scale=head.scale,
        dense=head.dense,
        verbose=verbose,
    )
    history = {name: head.history[name] + trained.history[name] for name in head.history}
    return replace(trained, history=history)


def _suffix(shape: Suffix, recipe: Recipe) -> Suffix:
    return replace(shape, dropout=any(recipe.dropout), l1=recipe.l1 > 0, l2=recipe.l2 > 0)
