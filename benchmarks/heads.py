"""Heads on stored features: L-BFGS with one BLAS thread, and one compiled trainer for all fits."""

from __future__ import annotations

import numpy as np
from measuring import Options, start, timing_table, timings_here

import transferclf.heads.linear as linear
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Classes
from transferclf.training.batches import Samples
from transferclf.training.phases import Start, fit_phase
from transferclf.training.recipe import Method, Recipe

N_FEATURES, N_CLASSES, EPOCHS = 1280, 5, 5


def main(options: Options) -> None:
    n_images, n_fits = (80, 2) if options.quick else (400, 60)
    features = np.random.default_rng(0).normal(size=(n_images, N_FEATURES)).astype(np.float32)
    labels = np.arange(n_images) % N_CLASSES
    data = (features, labels, n_fits)
    by_threads = {
        "L-BFGS, one BLAS thread": lambda: linear_heads(*data, small_problem=2**60),
        "L-BFGS, all BLAS threads": lambda: linear_heads(*data, small_problem=0),
    }
    # Few fits of the plain Keras head are enough: each builds and traces everything again.
    by_reuse = {
        "compiled trainer, shared": lambda: shared_trainer(*data),
        "Keras head, compiled for each fit": lambda: keras_heads(features, labels, 3),
    }
    print(f"One fit on {n_images} vectors of {N_FEATURES} features, {N_CLASSES} classes.\n")
    linear_times = timings_here(by_threads, options.rounds)
    each = {name: it * (1 / n_fits) for name, it in linear_times.items()}
    print(timing_table(each, what="linear head", unit=1e-3, name="ms") + "\n")
    shared, plain = by_reuse
    timed = timings_here(by_reuse, options.rounds)
    each = {shared: timed[shared] * (1 / n_fits), plain: timed[plain] * (1 / 3)}
    title = f"hidden_units=(128,), {EPOCHS} epochs"
    print(timing_table(each, what=title, unit=1e-3, name="ms"))


def linear_heads(features: np.ndarray, labels: np.ndarray, n_fits: int, small_problem: int) -> None:
    linear.SMALL_PROBLEM = small_problem
    for l2 in np.logspace(-4, 0, n_fits):
        linear.fit_linear(
            features, labels, Classes.numbered(N_CLASSES), l2=l2, sample_weight=np.ones(len(labels))
        )


def shared_trainer(features: np.ndarray, labels: np.ndarray, n_fits: int) -> None:
    for l2 in np.logspace(-4, 0, n_fits):
        fit_hidden_head(
            features, labels, N_CLASSES, Recipe(Method("adam"), 1e-3, EPOCHS, 32, l2=l2)
        )


def fit_hidden_head(
    features: np.ndarray, labels: np.ndarray, n_classes: int, recipe: Recipe
) -> None:
    """Fit a head of 128 hidden units with the functions that the classifier calls."""
    weights = np.ones(len(labels))
    suffix = Suffix(Classes.numbered(n_classes), (128,), l2=True, width=features.shape[1])
    with linear.few_threads(features.size):
        moments = Moments.of(features, weights)
        start = Start(moments.mean, moments.scale())
    fit_phase(suffix, recipe, Samples.of(features, labels, weights), start)


def keras_heads(features: np.ndarray, labels: np.ndarray, n_fits: int) -> None:
    from keras import Sequential, layers, regularizers

    for l2 in np.logspace(-4, 0, n_fits):
        hidden, last = (
            layers.Dense(units, activation, kernel_regularizer=regularizers.L2(l2))
            for units, activation in ((128, "relu"), (N_CLASSES, "softmax"))
        )
        normalization = layers.Normalization()
        normalization.adapt(features)
        model = Sequential([normalization, hidden, last])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(features, labels, batch_size=32, epochs=EPOCHS, verbose=0)


if __name__ == "__main__":
    start(main)
