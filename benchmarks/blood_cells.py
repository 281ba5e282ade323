"""Fine-tuning on four kinds of white blood cells, and which photographs stay wrong.

    TRANSFERCLF_DATA=... python benchmarks/blood_cells.py
        [--backbone efficientnet_lite0] [--size 150] [--seed 0] [--quick]

The classifier has `trainable_layers="all"` and nothing else set. It learns from all training images
of a well-known course project, in `blood_cells4/train`. The images of `test` seem to be turned and
shifted copies of the 71 photographs of `test_simple`. So each is counted with the photograph of its
class whose colours are nearest. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from accuracy import DATA
from measuring import table, usage_of
from PIL import Image
from sklearn.metrics import confusion_matrix

from transferclf import TransferClassifier, load_image_folder

REPORTED = 0.921  # accuracy in the project's report, on 2,487 images of this kind
PERCENTILES = (10, 25, 50, 75, 90)
BLACK = 60  # the sum of the channels is smaller where a turned copy has no image


def main() -> None:
    arguments = parsed()
    cells = {
        part: load_image_folder(DATA / "blood_cells4", split=part)
        for part in ("train", "test", "test_simple")
    }
    train, test, photographs = cells.values()
    X, y = train.data, train.target
    if arguments.quick:
        X, y = X[::100], y[::100]
    classifier = TransferClassifier(
        arguments.backbone,
        image_size=arguments.size,
        trainable_layers="all",
        random_state=arguments.seed,
        verbose=0 if arguments.quick else 1,
    )
    usage = usage_of(lambda: classifier.fit(X, y))
    predicted = classifier.predict(test.data)
    accuracies = [np.mean(predicted == test.target)]
    accuracies.append(np.mean(classifier.predict(photographs.data) == photographs.target))
    shown = [f"{each:.3f}" for each in (*accuracies, REPORTED)]
    rows = [(f"{len(y):,}", *shown, f"{usage.cpu:.0f}")]
    print(table(("training images", "test", "test_simple", "report", "CPU s"), rows) + "\n")
    print(confusion_table(test.target, predicted) + "\n")
    print(photographs_table(test, photographs, predicted))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=150, help="side of the network's input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the images")
    return parser.parse_args()


def confusion_table(y_true: np.ndarray, predicted: np.ndarray) -> str:
    """Return a row for each true class and a column for each predicted one."""
    names = np.unique(y_true)
    counts = confusion_matrix(y_true, predicted, labels=names)
    rows = [(name, *map(str, row)) for name, row in zip(names, counts, strict=True)]
    return table(("test", *names), rows)


def photographs_table(test, photographs, predicted: np.ndarray) -> str:
    """Return a row for each photograph with wrong copies: the most first."""
    nearest = nearest_photographs(test, photographs)
    rows: list[tuple[str, ...]] = []
    for number, path in enumerate(photographs.data):
        copies = predicted[nearest == number]
        wrong = copies[copies != photographs.target[number]]
        if len(wrong):
            names, counts = np.unique(wrong, return_counts=True)
            taken_for = ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True))
            counts = (str(len(copies)), str(len(wrong)))
            rows.append((Path(path).stem, photographs.target[number], *counts, taken_for))
    rows.sort(key=lambda row: -int(row[3]))
    return table(("photograph", "class", "copies", "wrong", "taken for"), rows)


def nearest_photographs(test, photographs) -> np.ndarray:
    """Return for each test image the number of the photograph whose colours are nearest."""
    of_test, of_photographs = (
        np.array([colours(path) for path in bunch.data]) for bunch in (test, photographs)
    )
    deviation = of_test.std(axis=0)
    nearest = np.empty(len(of_test), int)
    for label in np.unique(test.target):
        rows, among = (np.flatnonzero(bunch.target == label) for bunch in (test, photographs))
        differences = (of_test[rows, None] - of_photographs[among]) / deviation
        nearest[rows] = among[np.square(differences).sum(axis=2).argmin(axis=1)]
    return nearest


def colours(path) -> np.ndarray:
    """Return percentiles of each channel, without the black margins of turned copies."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((75, 75)), float).reshape(-1, 3)
    return np.percentile(pixels[pixels.sum(axis=1) > BLACK], PERCENTILES, axis=0).ravel()


if __name__ == "__main__":
    main()
