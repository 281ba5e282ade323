"""Draw the images of docs/how_to/reports.md, one for each display, and that of the README.

    python docs/draw_displays.py                 # from scikit-learn's digits
    TRANSFERCLF_DATA=FOLDER python docs/draw_displays.py --sports --folder OTHER

`--sports --folder OTHER` draws the photographs in ``FOLDER/sports10/SPLIT/CLASS/IMAGE``. They are
not part of the project, because we may not pass them on. `--many --folder OTHER` draws made-up
results of thirty classes and twelve runs, to check that large figures are readable.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from transferclf import ConvNet, TransferClassifier, load_image_folder, top_k
from transferclf.reports import (
    ClassBalanceDisplay,
    EmbeddingDisplay,
    GradCAMDisplay,
    ImageGridDisplay,
    TrainingHistoryDisplay,
    evaluate,
)

mpl.use("Agg")
HERE = Path(__file__).resolve().parent
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RUNS = {
    "L-BFGS": {},
    "Adam": {"optimizer": "adam", "epochs": 30},
    "last block too": {"trainable_layers": "block4", "fine_tune_learning_rate": 1e-4},
}


def main() -> None:
    """Draw all displays, or those with many classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sports", action="store_true", help="use sports10 in TRANSFERCLF_DATA")
    parser.add_argument("--many", action="store_true", help="draw thirty classes and twelve runs")
    parser.add_argument("--folder", type=Path, help="folder of the images; for digits docs/images")
    arguments = parser.parse_args()
    if arguments.folder is None and (arguments.sports or arguments.many):
        parser.error("docs/images is for the digits only; set --folder")
    arguments.folder = arguments.folder or HERE / "images"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    figures = many() if arguments.many else displays(*(sports() if arguments.sports else digits()))
    for name, figure in figures.items():
        path = arguments.folder / f"{name}.png"
        figure.savefig(path, dpi=80)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def digits():
    """Return options, training and test images of scikit-learn's digits."""
    digits = load_digits()
    split = train_test_split(
        digits.images, digits.target, train_size=300, test_size=600, random_state=0
    )
    X, X_test, y, y_test = split
    return {"pixel_range": (0, 16), "image_size": 32}, (X, y), (X_test, y_test)


def sports():
    """Return options, training and test photographs of ten sports."""
    folder = Path(os.environ["TRANSFERCLF_DATA"]) / "sports10"
    parts = [load_image_folder(folder, split=split) for split in ("train", "valid", "test")]
    (X, y), *others = [(part.data, part.target) for part in parts]
    X_test, y_test = (np.concatenate(both) for both in zip(*others, strict=True))
    return {"image_size": 64}, (X, y), (X_test, y_test)


def displays(options, train, test):
    """Return a figure of each display."""
    runs = {
        name: TransferClassifier(random_state=0, **options, **run).fit(*train, validation_data=test)
        for name, run in RUNS.items()
    }
    classifier = runs["L-BFGS"]
    said = evaluate(classifier, *test)
    print(said)
    known = {"y_true": said.y_true, "y_pred": said.y_pred, "y_proba": said.y_proba}
    return {
        "training_history": TrainingHistoryDisplay.from_histories(runs).figure_,
        "embedding": EmbeddingDisplay.from_estimator(classifier, *test).figure_,
        "embedding_thumbnails": EmbeddingDisplay.from_estimator(
            classifier, *test, thumbnails=True
        ).figure_,
        "worst": grid(classifier, test, known, "worst"),
        "uncertain": grid(classifier, test, known, "uncertain"),
        "gradcam": heat_maps(test),
        "class_balance": ClassBalanceDisplay.from_targets(
            {"train": train[1], "test": test[1]}
        ).figure_,
        "confusion_matrix": confusion(said),
        "calibration": calibration(said),
        "names": names(classifier, train, test),
    }


def names(classifier, train, test):
    """Return a figure of training images in their classes, and of new ones with their names."""
    figure = plt.figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 6))
    left.suptitle("class folders: fit", fontsize=15)
    right.suptitle("new images: predict", fontsize=15)
    X, y = train
    for row, label in zip(left.subplots(3, 5), classifier.classes_[1:4], strict=True):
        show(row, X[np.flatnonzero(y == label)[:5]])
        row[0].set_ylabel(name_of(label), rotation=0, ha="right", va="center", fontsize=15)
    axes = right.subplots(2, 4).ravel()
    show(axes, test[0][:8])
    labels, shares = top_k(classifier, test[0][:8], k=1)
    for ax, label, share in zip(axes, labels[:, 0], shares[:, 0], strict=True):
        ax.set_title(f"{name_of(label)} {share:.2f}", fontsize=13)
    return figure


def name_of(label):
    """Return the name of a class: a word for a digit."""
    return str(label) if isinstance(label, str) else DIGITS[label]


def show(axes, images):
    """Draw arrays, or files, without ticks."""
    for ax, image in zip(axes, images, strict=True):
        pixels = image if isinstance(image, np.ndarray) else plt.imread(image)
        ax.imshow(pixels, cmap="gray_r")
        ax.set(xticks=[], yticks=[])


def grid(classifier, test, known, kind):
    """Return a figure of images of one kind, from predictions made before."""
    options = {"kind": kind, "n_images": 8, "classes": classifier.classes_}
    images = classifier._source_of(test[0])
    return ImageGridDisplay.from_predictions(images, **known, **options).figure_


def heat_maps(test):
    """Return heat maps of a network trained from scratch, whose last map has 4 x 4 cells."""
    network = ConvNet(filters=(16, 32), convs_per_block=2, dense_units=(), dropout=0.2)
    X, y = test
    classifier = TransferClassifier(
        network, image_size=16, pixel_range=(0, 16), epochs=20, random_state=0
    )
    classifier.fit(X[60:], y[60:])
    first = [int(np.flatnonzero(y[:60] == label)[0]) for label in range(10)]
    return GradCAMDisplay.from_estimator(classifier, X[first], n_columns=5).figure_


def confusion(said):
    """Return scikit-learn's display of the confusion matrix."""
    display = ConfusionMatrixDisplay(said.confusion_matrix, display_labels=said.classes)
    display.plot(cmap="Blues", xticks_rotation="vertical", colorbar=False)
    display.figure_.set_layout_engine("constrained")
    return display.figure_


def calibration(said):
    """Return scikit-learn's display of calibration: share of right predictions by confidence."""
    display = CalibrationDisplay.from_predictions(
        said.y_true == said.y_pred, said.y_proba.max(axis=1), n_bins=5, name="all classes"
    )
    display.ax_.set(xlabel="confidence", ylabel="share of right predictions")
    return display.figure_


def many():
    """Return figures of thirty made-up classes and twelve made-up runs."""
    rng = np.random.default_rng(0)
    names = np.array([f"animal species number {n}" for n in range(30)])
    y, y_test = names[rng.integers(30, size=900)], names[rng.integers(30, size=150)]
    centres = dict(zip(names, rng.normal(size=(30, 20)) * 3, strict=True))
    features = np.array([centres[label] for label in y]) + rng.normal(size=(900, 20))
    epochs = np.arange(40)
    runs = {
        f"learning rate 1e-{n}": {
            "loss": list(2 * np.exp(-epochs[: 10 + 2 * n] / (3 + n)) + 0.1),
            "accuracy": list(1 - 0.8 * np.exp(-epochs[: 10 + 2 * n] / (3 + n))),
            "val_loss": list(2 * np.exp(-epochs[: 10 + 2 * n] / (3 + n)) + 0.3),
            "val_accuracy": list(0.9 - 0.8 * np.exp(-epochs[: 10 + 2 * n] / (3 + n))),
        }
        for n in range(12)
    }
    boundaries = {name: 8 + 2 * n for n, name in enumerate(runs) if n % 3 == 0}
    history = TrainingHistoryDisplay.from_histories(runs, boundaries=boundaries)
    images = rng.integers(0, 255, (900, 16, 24, 3), dtype=np.uint8)
    proba = rng.dirichlet(np.ones(30) * 0.2, 900)
    return {
        "many_history": history.figure_,
        "many_embedding": EmbeddingDisplay.from_features(features, y).figure_,
        "many_thumbnails": EmbeddingDisplay.from_features(
            features, y, images=images, thumbnails=True
        ).figure_,
        "many_balance": ClassBalanceDisplay.from_targets({"train": y, "test": y_test}).figure_,
        "many_balance_3": ClassBalanceDisplay.from_targets(
            {"train": y, "valid": y_test[:70], "test": y_test[70:]}, normalize=True, order="count"
        ).figure_,
        "many_grid": ImageGridDisplay.from_predictions(
            images, y, y_proba=proba, classes=names, n_images=24
        ).figure_,
    }


if __name__ == "__main__":
    main()
