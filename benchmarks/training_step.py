"""A step of training of a whole network, compared with Keras' `train_on_batch` of the same network.

All layers are trained by AdamW, on the same batches in memory. `fit` of TransferClassifier compiles
several steps into one call, and folds batch normalisation of the pretrained network into the layers
before it. Keras trains the same layers, once with batch normalisation in inference mode, as its
guide to fine-tuning asks for, and once as `compile` and `fit` do by themselves, with statistics of
each batch. Where the processor has bfloat16, `precision="bfloat16"` is measured too. Nothing is
augmented. The images are random, and the weights are those of pretraining:
features of random weights hardly differ between images, and training them diverges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from measuring import (
    Claim,
    Options,
    Timing,
    child_result,
    claims_table,
    ratio_of,
    start,
    timing_table,
    timings_here,
)
from pictures import labelled_images

N_CLASSES, BATCH, STEPS = 4, 32, 4
OURS, FROZEN, TRAINED = "TransferClassifier", "Keras", "Keras, with statistics of the batch"
LOW = "TransferClassifier, bfloat16"
PROMISED = {TRAINED: 0.9, FROZEN: 1.0}


class Case(NamedTuple):
    """A network, and the side of its images."""

    backbone: str
    side: int


CASES = (Case("efficientnet_lite0", 128), Case("tiny", 96))


def main(options: Options) -> None:
    claims = []
    cases = CASES[-1:] if options.quick else CASES
    for case in cases:
        timed = {
            name: Timing(*values)
            for name, values in child_result(
                timed_steps, backbone=case.backbone, side=case.side, rounds=options.rounds
            ).items()
        }
        what = f"{case.backbone}, {case.side} pixels: {STEPS} steps of {BATCH} images"
        print(timing_table(timed, what=what) + "\n")
        for peer, bound in PROMISED.items():
            what = f"{case.backbone}: CPU seconds / {peer}"
            claims.append(Claim(what, ratio_of(timed, OURS, peer), bound, False))
    print(claims_table(claims))


def timed_steps(backbone: str, side: int, rounds: int) -> dict[str, list[float]]:
    """Return the times of the candidates in turns, in this process."""
    X, y = labelled_images(BATCH * STEPS, side, N_CLASSES)
    from transferclf.engines.engine import has_bfloat16

    classifier, ours = our_steps(backbone, X, y, "float32")
    low = {LOW: our_steps(backbone, X, y, "bfloat16")[1]} if has_bfloat16() else {}
    candidates = {
        OURS: ours,
        **low,
        FROZEN: keras_steps(classifier, X, y, is_norm_trained=False),
        TRAINED: keras_steps(classifier, X, y, is_norm_trained=True),
    }
    return {name: list(timing) for name, timing in timings_here(candidates, rounds).items()}


def our_steps(
    backbone: str, X: np.ndarray, y: np.ndarray, precision: str
) -> tuple[Any, Callable[[], Any]]:
    """Return a classifier whose fit has compiled the steps, and a function that repeats them."""
    from transferclf import TransferClassifier
    from transferclf.training import phases

    calls = []
    begin = phases.Run.train

    def train(run: Any, verbose: int) -> None:
        begin(run, verbose)
        calls.append((run.trainer, run._data(), run.recipe))

    phases.Run.train = train
    try:
        classifier = TransferClassifier(
            backbone,
            image_size=X.shape[1],
            trainable_layers="all",
            fine_tune_epochs=1,
            fine_tune_learning_rate=1e-6,
            augmentation=None,
            soup=1.0,
            batch_size=BATCH,
            precision=precision,
            cache=None,
            random_state=0,
        ).fit(X, y)
    finally:
        phases.Run.train = begin
    trainer, data, recipe = calls[-1]
    order = np.arange(len(X), dtype=np.int32)
    rates = np.full(STEPS, 1e-6, np.float32)
    return classifier, lambda: trainer.epoch(data, order, recipe.batch_size, rates)


def keras_steps(
    classifier: Any, X: np.ndarray, y: np.ndarray, *, is_norm_trained: bool
) -> Callable[[], None]:
    import keras

    backbone = classifier.prefix_.whole().build()
    for layer in backbone.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = is_norm_trained or not is_norm
    scores = keras.layers.Dense(N_CLASSES)(backbone.outputs[0])
    model = keras.Model(backbone.inputs, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-6), loss, weighted_metrics=["accuracy"])

    def run() -> None:
        for first in range(0, len(X), BATCH):
            model.train_on_batch(X[first : first + BATCH], y[first : first + BATCH])

    return run


if __name__ == "__main__":
    start(main, children=[timed_steps])
