"""Targets that are no classes, on real photographs: quality and cost beside scikit-learn.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/targets.py [--kinds labels]

Both get the same features, which are stored before the clock starts. CPU seconds are those of all
threads for one fit, with the choice of the penalty. Prints Markdown tables.

labels
    Several labels for an image: which two of ten sports are side by side, and attributes of animals
    (`attributes.py`). The mean average precision over labels, beside one `LogisticRegressionCV` for
    each label on standardised features.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attributes import attributes_of
from measuring import number, table
from PIL import Image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import CNNFeatureExtractor, TransferClassifier, load_image_folder

DATA = Path(os.environ.get("TRANSFERCLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
BACKBONES = {"tiny": 96, "mobilenet_v2": 160}  # and the side of the images
SIDE = 160  # of each half of a pair
PAIRS = {"train": 1200, "test": 400}

Sets = tuple[object, object, np.ndarray, np.ndarray]


def labels(backbones: list[str], cache: str) -> str:
    """Several labels for an image."""
    rows = []
    for name, sets in label_sets():
        for backbone in backbones:
            rows += [(name, backbone, *row) for row in label_rows(backbone, cache, *sets)]
    columns = ("images", "backbone", "method", "mean average precision", "CPU s", "ratio of CPU")
    return table(columns, rows)


def label_rows(
    backbone: str, cache: str, X_train: object, X_test: object, Y: np.ndarray, Y_test: np.ndarray
) -> list[tuple[str, str, str, str]]:
    """A line for each method: its name, quality, CPU seconds and their ratio to the last line."""
    options = {"image_size": BACKBONES[backbone], "resize": "stretch", "cache": cache}
    extractor = CNNFeatureExtractor(backbone, **options).fit(X_train)
    train, test = extractor.transform(X_train), extractor.transform(X_test)
    ours = TransferClassifier(backbone, random_state=0, **options)
    ours.fit(X_train, Y)  # compiles once, and finds the features
    each = make_pipeline(StandardScaler(), LogisticRegressionCV(max_iter=1000))
    found = [
        (f"TransferClassifier(), l2={number(ours.l2_)}", *judged(ours, X_train, X_test, Y, Y_test)),
        (
            "LogisticRegressionCV a label",
            *judged(OneVsRestClassifier(each), train, test, Y, Y_test),
        ),
    ]
    most = found[-1][2]
    return [(name, f"{ap:.4f}", number(cpu), number(cpu / most)) for name, ap, cpu in found]


def judged(
    estimator: object, X_train: object, X_test: object, Y: np.ndarray, Y_test: np.ndarray
) -> tuple[float, float]:
    """Mean average precision over the labels, and the CPU seconds of one fit."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn about its own changes
        estimator.fit(X_train, Y)
    seconds = time.process_time() - start
    return average_precision_score(
        Y_test, estimator.predict_proba(X_test), average="macro"
    ), seconds


def label_sets() -> Iterator[tuple[str, Sets]]:
    """Real images with several labels: the name of the set, and its parts."""
    parts = []
    for split, number_of in (("train", PAIRS["train"]), (["valid", "test"], PAIRS["test"])):
        bunch = load_image_folder(DATA / "sports10", split=split)
        parts.append(pairs(bunch.data, bunch.target, number_of))
    (X, Y), (X_test, Y_test) = parts
    yield "two of ten sports", (X, X_test, Y, Y_test)
    bunch = load_image_folder(DATA / "caltech_animals35")
    X, X_test, kinds, test_kinds = train_test_split(
        bunch.data, bunch.target, test_size=0.15, stratify=bunch.target, random_state=0
    )
    yield "attributes of animals", (X, X_test, attributes_of(kinds), attributes_of(test_kinds))


def pairs(paths: np.ndarray, names: np.ndarray, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of photographs of two classes side by side, and a table of their labels."""
    rng = np.random.default_rng(0)
    labels, numbers = np.unique(names, return_inverse=True)
    squares = np.stack([square(path) for path in paths])
    images, table_ = [], np.zeros((n_pairs, len(labels)), int)
    for row in table_:
        left, right = rng.choice(len(paths), 2, replace=False)
        while numbers[left] == numbers[right]:
            right = rng.integers(len(paths))
        images.append(np.concatenate([squares[left], squares[right]], axis=1))
        row[numbers[[left, right]]] = 1
    return np.stack(images), table_


def square(path: str) -> np.ndarray:
    """Return the largest square in the middle of a photograph, as pixels."""
    with Image.open(path) as image:
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        cropped = image.convert("RGB").crop((left, top, left + side, top + side))
        return np.asarray(cropped.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


KINDS = {function.__name__: function for function in (labels,)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--cache", default="memory", help="a folder that keeps features")
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        print(f"## {KINDS[kind].__doc__.rstrip('.')}\n")
        print(KINDS[kind](arguments.backbones, arguments.cache), flush=True)


if __name__ == "__main__":
    main()
