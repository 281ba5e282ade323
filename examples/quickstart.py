"""Fit and score a classifier on scikit-learn's digits, or on a folder of your own images.

    python examples/quickstart.py                 # 1,797 digits, nothing is downloaded
    python examples/quickstart.py FOLDER          # FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE

If the folder has splits, the classifier is fitted on ``train`` and scored on all other splits
together. Else the images are split 75/25, stratified. Then penalties of the head are compared by
cross-validation, for which no image goes through the network again. Two pictures are written: the
confusion matrix, and the test images whose prediction was worst.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from sklearn.model_selection import GridSearchCV, train_test_split

from transferclf import FeatureStore, TransferClassifier, load_image_folder, top_k
from transferclf.reports import ImageGridDisplay

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
FEW_IMAGES = 10
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 3
NAMED = 5  # test images whose most probable classes are printed
TEST_SPLITS = ("valid", "validation", "val", "test")


def main():
    mpl.use("Agg")
    arguments = parsed_arguments()
    X_train, X_test, y_train, y_test, options = images(arguments.folder)

    store = FeatureStore()
    start = time.perf_counter()
    classifier = TransferClassifier(
        arguments.backbone,
        image_size=arguments.image_size,
        cache=store,
        random_state=0,
        verbose=1,
        **options,
    ).fit(X_train, y_train)
    predicted = classifier.predict(X_test)
    seconds = time.perf_counter() - start

    print(f"\nbackbone       {arguments.backbone}")
    print(f"images         {len(y_train)} to train on, {len(y_test)} to test on")
    print(f"classes        {len(classifier.classes_)}")
    print(f"seconds        {seconds:.1f}")
    print(f"test accuracy  {np.mean(predicted == y_test):.4f} by a head on the frozen backbone\n")
    print(classification_report(y_test, predicted, zero_division=0))
    name_classes(classifier, X_test, y_test)
    compare_penalties(classifier, store, X_train, y_train)
    print(f"confusion matrix written to {draw_confusions(y_test, predicted, arguments.output)}")
    print(f"worst predictions written to {draw_worst(classifier, X_test, y_test, arguments)}")


def name_classes(classifier, X, y):
    """Print the two most probable classes of some images, by name."""
    labels, probabilities = top_k(classifier, X[:NAMED], k=2)
    for truth, names, shares in zip(y, labels, probabilities, strict=False):
        print(f"{truth}: {names[0]} {shares[0]:.3f}, {names[1]} {shares[1]:.3f}")


def compare_penalties(classifier, store, X, y):
    """Fit heads of several penalties, on the features that the first fit has stored."""
    folds = min(FOLDS, np.unique(y, return_counts=True)[1].min())
    if folds < 2:
        print("\nnote: a class has a single training image, so that there are no folds.")
        return
    before, start = store.info().entries, time.perf_counter()
    search = GridSearchCV(classifier, {"l2": PENALTIES, "verbose": [0]}, cv=folds, refit=False).fit(
        X, y
    )
    seconds = time.perf_counter() - start
    computed = store.info().entries - before
    print(
        f"\n{len(PENALTIES)} penalties in {folds} folds: {len(PENALTIES) * folds} heads in "
        f"{seconds:.1f} s, for which {computed} images went through the network"
    )
    means = search.cv_results_["mean_test_score"]
    for penalty, mean in zip(PENALTIES, means, strict=True):
        print(f"  l2={penalty:<7g} accuracy {mean:.4f}")
    print(f"  l2='auto' was {classifier.l2_:g}\n")


def parsed_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="class folders; default: digits")
    parser.add_argument("--backbone", default="tiny", help="a name of list_backbones()")
    parser.add_argument("--image-size", type=int, help="side in pixels; default: the backbone's")
    parser.add_argument("--output", type=Path, default=Path("confusion_matrix.png"))
    parser.add_argument("--pictures", type=Path, default=Path("worst_predictions.png"))
    return parser.parse_args()


def images(folder):
    """Return training and test images, their labels, and options for the classifier."""
    if folder is None:
        digits = load_digits()
        return *split(digits.images, NAMES[digits.target]), {"pixel_range": (0, 16)}
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
    side = max(5, 0.4 * len(np.unique(y_true)))
    display = ConfusionMatrixDisplay.from_predictions(
        y_true, y_predicted, xticks_rotation="vertical", colorbar=False, cmap="cividis"
    )
    display.figure_.set_size_inches(side, side)
    display.figure_.savefig(output, bbox_inches="tight", dpi=150)
    return output


def draw_worst(classifier, X, y, arguments):
    display = ImageGridDisplay.from_estimator(classifier, X, y, kind="worst", images=seen(X))
    display.figure_.savefig(arguments.pictures, bbox_inches="tight", dpi=150)
    return arguments.pictures


def seen(X):
    """Return digits, which are numbers from 0 to 16, as grays; and files as they are."""
    return (X * 15).astype(np.uint8) if X.dtype.kind == "f" else X


if __name__ == "__main__":
    main()
