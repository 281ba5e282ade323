"""A grid search over 12 settings and 5 folds, compared with the same network in scikeras.

There are 400 images of 96 × 96 pixels and a frozen MobileNetV2 with random weights. Each
measurement is in a new process, after importing Keras; it includes building and compiling
networks. scikeras runs one of the twelve settings, and its time is multiplied by twelve.
`keras.wrappers.SKLearnClassifier` is left out, because its X may have two dimensions at most. The
limit is one forward pass over the distinct images by the fastest engine, and the sixty head fits.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from typing import Any

import numpy as np
from measuring import (
    Claim,
    Options,
    Timing,
    Usage,
    child_result,
    claims_table,
    number,
    ratio_of,
    start,
    table,
    timing,
    timing_table,
    timings,
    usage_in_child,
    usage_of,
)
from pictures import labelled_images

SIDE, N_CLASSES, EPOCHS, FOLDS = 96, 5, 5, 5
HIDDEN = {"linear": (), "hidden": (128,)}
NAMES = {"linear": "linear head", "hidden": "hidden_units=(128,), 5 epochs"}
# The grids, and below the promised speed-up over scikeras.
GRIDS: dict[str, dict[str, list[float]]] = {
    "linear": {"l2": np.logspace(-4, 1, 12).tolist()},
    "hidden": {"l2": [1e-4, 1e-3, 1e-2], "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2]},
}
PROMISED = {"linear": 100.0, "hidden": 60.0}
ENGINES = ("tensorflow", "onnxruntime", "openvino")


def main(options: Options) -> None:
    n_images = 40 if options.quick else 400
    claims = []
    for head in HIDDEN:
        claims += compared(head, n_images, options.rounds)
    for head in HIDDEN:
        claims += warm(head, n_images)
    print(claims_table(claims))


def compared(head: str, n_images: int, rounds: int) -> list[Claim]:
    """Print the times of the search, of scikeras and of the limit."""
    scikeras, ours = "scikeras, twelve times one setting", "TransferClassifier"
    asked = {"head": head, "n_images": n_images}
    timed = timings(
        {
            ours: usage_in_child(search, **asked),
            f"{ours}, stored on disk": usage_in_child(search_on_new_disk, **asked),
            scikeras: usage_in_child(scikeras_search, **asked),
        },
        rounds,
    )
    timed[scikeras] *= len(settings(head))
    limits = {engine: limit(head, n_images, engine, rounds) for engine in ENGINES}
    timed |= fastest(limits)
    print(f"### {NAMES[head]}\n\n{timing_table(timed)}\n\n{limits_table(limits)}\n")
    with_building = list(timed)[-2]
    return [
        Claim(
            f"{NAMES[head]}: times faster than scikeras",
            ratio_of(timed, scikeras, ours),
            PROMISED[head],
        ),
        Claim(
            f"{NAMES[head]}: times the limit, networks built in both",
            ratio_of(timed, ours, with_building),
            1.5,
            at_least=False,
        ),
    ]


def limit(head: str, n_images: int, engine: str, rounds: int) -> dict[str, Timing] | None:
    """Return the time of each part of the limit; None if this engine is not installed."""
    found = [
        child_result(parts, head=head, n_images=n_images, engine=engine) for _ in range(rounds)
    ]
    if None in found:
        return None
    return {part: timing([Usage(*each[part]) for each in found]) for part in found[0]}


def fastest(limits: dict[str, dict[str, Timing] | None]) -> dict[str, Timing]:
    """Return the limit with and without building networks, each by its fastest engine."""
    there = {engine: limit for engine, limit in limits.items() if limit}
    best = {}
    for name, wanted in (
        ("with building", ("building", "forward", "heads")),
        ("networks built before", ("forward", "heads")),
    ):
        sums = {engine: total([limit[part] for part in wanted]) for engine, limit in there.items()}
        engine = min(sums, key=lambda each: sums[each].cpu)
        best[f"limit, {name}, {engine}"] = sums[engine]
    return best


def total(parts: list[Timing]) -> Timing:
    return Timing(sum(part.cpu for part in parts), sum(part.wall for part in parts))


def limits_table(limits: dict[str, dict[str, Timing] | None]) -> str:
    rows = [
        (engine, *(number(limit[part].cpu) for part in ("building", "forward", "heads")))
        for engine, limit in limits.items()
        if limit
    ]
    return table(("parts of the limit, CPU s", "building", "forward", "60 heads"), rows)


def settings(head: str) -> list[dict[str, float]]:
    names = list(GRIDS[head])
    return [dict(zip(names, it, strict=True)) for it in itertools.product(*GRIDS[head].values())]


def search(head: str, n_images: int, cache: str = "memory") -> dict[str, Any]:
    """Measure, in a new process, the search, its images through the network and its imports."""
    # The import of Keras is not counted, because scikeras needs it too. A search over linear heads
    # with all features on disk never imports it.
    if cache == "memory":
        import keras  # noqa: F401
    from sklearn.model_selection import GridSearchCV

    from transferclf import TransferClassifier

    X, y = labelled_images(n_images, SIDE, N_CLASSES)
    found = GridSearchCV(
        TransferClassifier(
            "mobilenet_v2",
            weights=None,
            random_state=0,
            image_size=SIDE,
            hidden_units=HIDDEN[head],
            epochs=EPOCHS,
            cache=cache,
        ),
        GRIDS[head],
        cv=FOLDS,
        error_score="raise",
    )
    usage = usage_of(lambda: found.fit(X, y))
    process, imported = time.process_time(), "tensorflow" in sys.modules
    # If the search built no network, one is built here and has seen no images.
    seen = found.best_estimator_.prefix_.forward().images_seen
    return {"usage": usage, "process": process, "tensorflow": imported, "seen": seen}


def search_on_new_disk(head: str, n_images: int) -> dict[str, Any]:
    import keras  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        return search(head, n_images, folder)


def warm(head: str, n_images: int) -> list[Claim]:
    """Print the times of a search that fills the store and of another that finds it filled."""
    with tempfile.TemporaryDirectory() as folder:
        cold, again = (
            child_result(search, head=head, n_images=n_images, cache=folder) for _ in range(2)
        )
    rows = [
        (name, number(it["process"]), str(it["seen"]), "yes" if it["tensorflow"] else "no")
        for name, it in (("cold", cold), ("warm", again))
    ]
    columns = ("store on disk", "CPU s of the process", "images through the network", "TensorFlow")
    print(f"{NAMES[head]}, cold and warm search each in a new process:\n\n{table(columns, rows)}\n")
    claims = [
        Claim(f"{NAMES[head]}: images computed, cold", cold["seen"], n_images, at_least=False),
        Claim(f"{NAMES[head]}: images computed, warm", again["seen"], 0, at_least=False),
    ]
    if head == "linear":
        imported = float(again["tensorflow"])
        claims.append(Claim("linear head: TensorFlow imported, warm", imported, 0, at_least=False))
    return claims


def scikeras_search(head: str, n_images: int) -> dict[str, Any]:
    """Measure, in a new process, one setting on five folds by scikeras."""
    from scikeras.wrappers import KerasClassifier
    from sklearn.model_selection import GridSearchCV

    X, y = labelled_images(n_images, SIDE, N_CLASSES)
    X = X.astype(np.float32)
    wrapped = KerasClassifier(
        model=wrapped_network,
        model__hidden_units=HIDDEN[head],
        model__l2=0.01,
        epochs=EPOCHS,
        batch_size=32,
        verbose=0,
    )
    found = GridSearchCV(wrapped, {"model__l2": [0.01]}, cv=FOLDS, refit=False, error_score="raise")
    return {"usage": usage_of(lambda: found.fit(X, y))}


def wrapped_network(hidden_units: tuple[int, ...], l2: float) -> Any:
    """Return the same classifier, written in plain Keras."""
    import keras
    from keras import layers, regularizers

    backbone = keras.applications.MobileNetV2(
        (SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg"
    )
    backbone.trainable = False
    pixels = keras.Input((SIDE, SIDE, 3))
    x = backbone(layers.Rescaling(1 / 127.5, -1)(pixels), training=False)
    for units in hidden_units:
        x = layers.Dense(units, "relu", kernel_regularizer=regularizers.L2(l2))(x)
    outputs = layers.Dense(N_CLASSES, "softmax", kernel_regularizer=regularizers.L2(l2))(x)
    model = keras.Model(pixels, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def parts(head: str, n_images: int, engine: str) -> dict[str, Usage] | None:
    """Measure, in a new process, building the network, one forward pass and the head fits."""
    import keras  # noqa: F401
    from sklearn.model_selection import StratifiedKFold

    from transferclf import CNNFeatureExtractor
    from transferclf.exceptions import TransferclfError

    X, y = labelled_images(n_images, SIDE, N_CLASSES)
    options = {"weights": None, "random_state": 0, "image_size": SIDE, "cache": None}
    extractor = CNNFeatureExtractor("mobilenet_v2", **options, engine=engine)
    try:
        building = usage_of(lambda: extractor.fit(X[:1]))
    except TransferclfError:
        return None
    pixels, features = X.astype(np.float32), []
    forward = usage_of(lambda: features.append(extractor.prefix_.forward()(pixels)))
    folds = [train for train, _ in StratifiedKFold(FOLDS).split(X, y)]
    each = [(setting, train) for setting in settings(head) for train in folds]

    def fit(setting: dict[str, float], train: np.ndarray) -> None:
        fit_bare_head(head, setting, features[0][train], y[train])

    compiling = usage_of(lambda: fit(*each[0])) if head == "hidden" else Usage(0.0, 0.0)
    heads = usage_of(lambda: [fit(*one) for one in each])
    built = Usage(building.cpu + compiling.cpu, building.wall + compiling.wall)
    return {"building": built, "forward": forward, "heads": heads}


def fit_bare_head(
    head: str, setting: dict[str, float], features: np.ndarray, labels: np.ndarray
) -> None:
    from heads import fit_hidden_head

    from transferclf.heads.linear import fit_linear
    from transferclf.objectives import Classes
    from transferclf.training.recipe import Method, Recipe

    if head == "linear":
        weights = np.ones(len(labels))
        fit_linear(
            features, labels, Classes.numbered(N_CLASSES), l2=setting["l2"], sample_weight=weights
        )
        return
    recipe = Recipe(Method("adam"), setting["learning_rate"], EPOCHS, 32, l2=setting["l2"])
    fit_hidden_head(features, labels, N_CLASSES, recipe)


if __name__ == "__main__":
    start(main, [search, search_on_new_disk, scikeras_search, parts])
