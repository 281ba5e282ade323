"""Fine-tuning the last layers at 224 × 224, compared with Keras with the layers below frozen.

Keras runs the whole network from the pixels. Its lower layers are not trainable, and batch
normalisation is in inference mode. Its epochs are `Model.fit` on float32 images in memory.
`TransferClassifier.fit` first trains a head for one epoch, which Keras does not, and then
fine-tunes. Each measurement is in a new process, after importing Keras.

The cost of an epoch excludes building and tracing. It is the difference between a fit of more
epochs and a fit of fewer epochs, divided by the number of additional epochs.
"""

from __future__ import annotations

import tempfile
from typing import Any, NamedTuple

import numpy as np
from measuring import (
    Claim,
    Options,
    Timing,
    Usage,
    child_result,
    claims_table,
    ratio_of,
    start,
    timing,
    timing_table,
    usage_of,
)
from pictures import labelled_images

SIDE, N_CLASSES, L2 = 224, 5, 0.01
MORE = 4  # additional epochs of the longer fit, from which the cost of an epoch follows


class Case(NamedTuple):
    """A network, its cut, and the layers that Keras trains for the same cut."""

    backbone: str
    builder: str
    trainable_layers: int | str
    trained: tuple[str, ...]
    n_images: int
    epochs: int
    learning_rate: float
    promised: dict[str, float]


CASES = {
    "MobileNetV2, last three layers": Case(
        "mobilenet_v2",
        "MobileNetV2",
        3,
        ("Conv_1",),
        256,
        10,
        1e-4,
        {"epoch": 12, "cold": 5, "warm": 10},
    ),
    "VGG16, block5": Case(
        "vgg16",
        "VGG16",
        "block5",
        ("block5_conv1", "block5_conv2", "block5_conv3"),
        32,
        3,
        1e-5,
        {"epoch": 4},
    ),
}
KERAS = "Keras, lower layers frozen"
WHAT = {"epoch": "an epoch", "cold": "{} epochs, nothing stored", "warm": "{} epochs, store warm"}


def main(options: Options) -> None:
    claims = []
    for name, case in CASES.items():
        if options.quick:
            case = case._replace(n_images=32, epochs=2)
        timed, difference = compared(case, options.rounds)
        print(f"### {name}, {case.n_images} images\n")
        for part in WHAT:
            figures = {who: each[part] for who, each in timed.items() if part in each}
            print(timing_table(figures, what=WHAT[part].format(case.epochs)) + "\n")
            if part in case.promised:
                what = f"{name}: {WHAT[part].format(case.epochs)}, times faster than Keras"
                ours = "TransferClassifier"
                claims.append(Claim(what, ratio_of(figures, KERAS, ours), case.promised[part]))
        what = f"{name}: largest difference of the losses of {case.epochs} epochs"
        claims.append(Claim(what, difference, 1e-4, at_least=False))
    print(claims_table(claims))


def compared(case: Case, rounds: int) -> tuple[dict[str, dict[str, Timing]], float]:
    """Return the times of both for each part, and the largest difference of their losses."""
    usages: dict[str, list[dict[str, Usage]]] = {"TransferClassifier": [], KERAS: []}
    for _ in range(rounds):
        usages["TransferClassifier"].append(ours(case))
        usages[KERAS].append(as_usages(child_result(plain_keras, case=case)))
    timed = {
        who: {part: timing([it[part] for it in each]) for part in each[0]}
        for who, each in usages.items()
    }
    return timed, child_result(loss_difference, case=case)


def ours(case: Case) -> dict[str, Usage]:
    """Measure in a process that fills a store on disk, and in one that finds it filled."""
    with tempfile.TemporaryDirectory() as folder:
        cold = as_usages(child_result(transferclf_fits, case=case, cache=folder))
        warm = as_usages(child_result(transferclf_fits, case=case, cache=folder))
    return {"epoch": warm["epoch"], "cold": cold["fit"], "warm": warm["fit"]}


def as_usages(found: dict[str, list[float]]) -> dict[str, Usage]:
    return {part: Usage(*it) for part, it in found.items()}


def classifier_of(case: Case, weights: str | None = None, **options: Any) -> Any:
    from transferclf import TransferClassifier

    return TransferClassifier(
        case.backbone,
        weights=weights,
        random_state=0,
        image_size=SIDE,
        optimizer="adam",
        epochs=1,
        l2=L2,
        fine_tune_learning_rate=case.learning_rate,
        **options,
    )


def transferclf_fits(case: list[Any], cache: str) -> dict[str, Usage]:
    """Measure, in a new process, a fit, and an epoch without building and tracing."""
    import keras  # noqa: F401

    case = Case(*case)
    X, y = labelled_images(case.n_images, SIDE, N_CLASSES)
    classifier = classifier_of(case, trainable_layers=case.trainable_layers, cache=cache)

    def fit(epochs: int) -> Usage:
        return usage_of(lambda: classifier.set_params(fine_tune_epochs=epochs).fit(X, y))

    first, fewer, more = fit(case.epochs), fit(1), fit(1 + MORE)
    return {"fit": first, "epoch": per_epoch(fewer, more)}


def per_epoch(fewer: Usage, more: Usage) -> Usage:
    return Usage((more.cpu - fewer.cpu) / MORE, (more.wall - fewer.wall) / MORE)


def plain_keras(case: list[Any]) -> dict[str, Usage]:
    """Measure, in a new process, building and training, and an epoch without building."""
    import keras  # noqa: F401

    case = Case(*case)
    X, y = labelled_images(case.n_images, SIDE, N_CLASSES)
    X, models = X.astype(np.float32), []

    def fit(epochs: int) -> Usage:
        return usage_of(lambda: models[0].fit(X, y, batch_size=32, epochs=epochs, verbose=0))

    building = usage_of(lambda: models.append(plain_network(case)))
    whole, fewer, more = fit(case.epochs), fit(1), fit(1 + MORE)
    first = Usage(building.cpu + whole.cpu, building.wall + whole.wall)
    return {"epoch": per_epoch(fewer, more), "cold": first, "warm": first}


def plain_network(case: Case) -> Any:
    """Return the same classifier, written in plain Keras."""
    import keras
    from keras import layers, regularizers

    backbone = backbone_of(case)
    for layer in backbone.layers:
        layer.trainable = layer.name in case.trained
    pixels = keras.Input((SIDE, SIDE, 3))
    x = backbone(layers.Rescaling(1 / 127.5, -1)(pixels), training=False)
    outputs = layers.Dense(N_CLASSES, "softmax", kernel_regularizer=regularizers.L2(L2))(x)
    return compiled(keras.Model(pixels, outputs), case)


def backbone_of(case: Case) -> Any:
    import keras

    builder = getattr(keras.applications, case.builder)
    return builder(input_shape=(SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg")


def compiled(model: Any, case: Case) -> Any:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(case.learning_rate), loss, metrics=["accuracy"])
    return model


def loss_difference(case: list[Any]) -> float:
    """Return, from the same head and in the same order of images, the largest loss difference."""
    from keras import regularizers

    from transferclf.training.batches import epoch_orders

    case = Case(*case)
    X, y = labelled_images(case.n_images, SIDE, N_CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        weights = sound_weights(case, X, folder)
        tuned = classifier_of(
            case, weights, trainable_layers=case.trainable_layers, fine_tune_epochs=case.epochs
        ).fit(X, y)
        # The state before fine-tuning: the whole network and the head after one epoch.
        model = classifier_of(case, weights).fit(X, y).model_
    for layer in model.layers:
        layer.trainable = layer.name in (*case.trained, "predictions")
    model.get_layer("predictions").kernel.regularizer = regularizers.L2(L2)
    model, losses, X = compiled(model, case), [], X.astype(np.float32)
    for order in epoch_orders(len(X), case.epochs, seed=0):
        done = model.fit(X[order], y[order], batch_size=32, shuffle=False, verbose=0)
        losses += done.history["loss"]
    difference = np.subtract(tuned.history_["loss"][-case.epochs :], losses)
    return float(np.abs(difference).max())


def sound_weights(case: Case, X: np.ndarray, folder: str) -> str:
    """Write a file of random weights with which activations keep their size across layers.

    With Keras' own random weights the activations vanish. Only rounding errors would then
    distinguish images, and these differ between any two ways to compute the same network.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    backbone = backbone_of(case)
    normalizations = [it for it in backbone.layers if isinstance(it, layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0  # the statistics of one batch become the stored ones
    if normalizations:
        backbone(X[:32].astype(np.float32) / 127.5 - 1, training=True)
    else:  # each rectifier halves the variance, so double it
        kernels = [it.kernel for it in backbone.layers if isinstance(it, layers.Conv2D)]
        for kernel in kernels:
            kernel.assign(kernel * np.sqrt(2.0))
    file = f"{folder}/sound.weights.h5"
    backbone.save_weights(file)
    return file


if __name__ == "__main__":
    start(main, [transferclf_fits, plain_keras, loss_difference])
