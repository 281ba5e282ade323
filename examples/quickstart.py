"""Fit and score a classifier on scikit-learn's digits, or on a folder of your own images.

    python examples/quickstart.py                 # 1,797 digits, nothing is downloaded
    python examples/quickstart.py FOLDER          # FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE

If the folder has splits, the classifier is fitted on ``train`` and scored on all other splits
together. Else the images are split 75/25, stratified. The confusion matrix is written as a picture.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier, load_image_folder

FEW_IMAGES = 10
TRAINED_LAYERS = 7
TEST_SPLITS = ("valid", "validation", "val", "test")


def main():
    arguments = parsed_arguments()
    X_train, X_test, y_train, y_test, options = images(arguments.folder)

    start = time.perf_counter()
    frozen = TransferClassifier(
        arguments.backbone, image_size=arguments.image_size, random_state=0, verbose=1, **options
    )
    tuned = clone(frozen).set_params(trainable_layers=TRAINED_LAYERS, fine_tune_learning_rate=1e-4)
    tuned.fit(X_train, y_train)
    frozen.fit(X_train, y_train)  # uses the features that the first fit has stored
    predicted = frozen.predict(X_test)
    tuned_accuracy = tuned.score(X_test, y_test)
    seconds = time.perf_counter() - start

    print(f"\nbackbone       {arguments.backbone}")
    print(f"images         {len(y_train)} to train on, {len(y_test)} to test on")
    print(f"classes        {len(frozen.classes_)}")
    print(f"seconds        {seconds:.1f}")
    print(f"test accuracy  {np.mean(predicted == y_test):.4f} with all backbone layers frozen")
    print(f"               {tuned_accuracy:.4f} with its last {TRAINED_LAYERS} layers fine-tuned\n")
    print(classification_report(y_test, predicted, zero_division=0))
    print(f"confusion matrix written to {draw_confusions(y_test, predicted, arguments.output)}")


def parsed_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="class folders; default: digits")
    parser.add_argument("--backbone", default="tiny", help="a name of list_backbones()")
    parser.add_argument("--image-size", type=int, help="side in pixels; default: the backbone's")
    parser.add_argument("--output", type=Path, default=Path("confusion_matrix.png"))
    return parser.parse_args()


def images(folder):
    """Return training and test images, their labels, and options for the classifier."""
    if folder is None:
        digits = load_digits()
        return *split(digits.images, digits.target.astype(str)), {"pixel_range": (0, 16)}
    splits = {path.name.lower(): path.name for path in sorted(folder.iterdir()) if holds_more(path)}
    others = [splits[name] for name in TEST_SPLITS if name in splits]
    if "train" not in splits:
        bunch = load_image_folder(folder)
        return *split(bunch.data, bunch.target), {}
    train = load_image_folder(folder, split=splits["train"])
    if not others:
        return *split(train.data, train.target), {}
    test = load_image_folder(folder, split=others)
    tell_small_classes(train.target, test.target)
    return train.data, test.data, train.target, test.target, {}


def holds_more(path):
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def split(X, y):
    tell_small_classes(y)
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < 2 or len(y) < 4 * len(classes):
        sys.exit(
            f"{len(y)} images of {len(classes)} classes cannot be split 75/25 with every class on "
            "both sides. Expected at least two images of each class, and four times as many images "
            "as classes."
        )
    return train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)


def tell_small_classes(*labels):
    for name, count in zip(*np.unique(np.concatenate(labels), return_counts=True), strict=True):
        if count < FEW_IMAGES:
            print(
                f"note: class {name} has only {count} images. Its scores are uncertain, and "
                f"cross-validation can use at most {count} folds."
            )


def draw_confusions(y_true, y_predicted, output):
    mpl.use("Agg")
    side = max(5, 0.4 * len(np.unique(y_true)))
    display = ConfusionMatrixDisplay.from_predictions(
        y_true, y_predicted, xticks_rotation="vertical", colorbar=False, cmap="cividis"
    )
    display.figure_.set_size_inches(side, side)
    display.figure_.savefig(output, bbox_inches="tight", dpi=150)
    return output


if __name__ == "__main__":
    main()
