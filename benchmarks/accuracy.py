"""Accuracy of the default classifier on real images, and of the best `l2` on the test set.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/accuracy.py [--sets ...] [--l2 0.01]

The best of thirteen `l2` values is chosen on the test set. So it is an upper bound, not a fair
score. It shows how much a better default could gain. Prints a Markdown table.
"""

import argparse
import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier, load_image_folder

DATA = Path(os.environ.get("TRANSFERCLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
BACKBONES = {
    "tiny": {},
    "mobilenet_v2_035": {"image_size": 96},
    "mobilenet_v2": {"image_size": 160},
    "efficientnet_lite0": {},
}
L2_VALUES = np.logspace(-5, 1, 13)
PER_CLASS = 100  # training images of a folder of one's own


def sports10():
    train = load_image_folder(DATA / "sports10", split="train")
    test = load_image_folder(DATA / "sports10", split=["valid", "test"])
    return train.data, test.data, train.target, test.target


def animals35():
    bunch = load_image_folder(DATA / "caltech_animals35")
    return split(bunch.data, bunch.target, 0.15)


def blood_smear():
    bunch = load_image_folder(DATA / "blood_smear")
    kept = bunch.target != "BASOPHIL"
    return split(bunch.data[kept], bunch.target[kept], 0.25)


def blood_cells4():
    return sampled("blood_cells4", 150)


def cifar10():
    return sampled("cifar10_subset", 100)


def digits():
    bunch = load_digits()
    return split(bunch.images, bunch.target, 0.25)


def split(X, y, test_size):
    return train_test_split(X, y, test_size=test_size, stratify=y, random_state=0)


def sampled(name, n_test):
    """Return 300 training images and `n_test` test images per class."""
    parts = []
    for part, number in (("train", 300), ("test", n_test)):
        rng = np.random.RandomState(0)
        bunch = load_image_folder(DATA / name, split=part)
        chosen = np.concatenate(
            [
                rng.choice(np.flatnonzero(bunch.target == label), number, replace=False)
                for label in np.unique(bunch.target)
            ]
        )
        parts.append((bunch.data[chosen], bunch.target[chosen]))
    return parts[0][0], parts[1][0], parts[0][1], parts[1][1]


def class_folders(bunch):
    """Return at most 100 training images per class, and a quarter of all images for testing.

    Of images with the same bytes, also in several classes, the first is taken.
    """
    digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in bunch.data]
    _, first = np.unique(digests, return_index=True)
    first.sort()
    X, X_test, y, y_test = split(bunch.data[first], bunch.target[first], 0.25)
    rng = np.random.RandomState(0)
    orders = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
    chosen = np.concatenate([order[:PER_CLASS] for order in orders])
    return X[chosen], X_test, y[chosen], y_test


SETS = {
    function.__name__: function
    for function in (sports10, animals35, blood_smear, blood_cells4, cifar10, digits)
}


BUILT_IN = tuple(SETS)


def image_set(text):
    """Return the name of a set. A folder of class folders becomes one, known by its name alone."""
    if text in BUILT_IN:
        return text
    path = Path(text).resolve()
    if not text or not path.name or not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"expected a folder of class folders or one of {', '.join(BUILT_IN)}, got {text!r}"
        )
    if path.name in SETS:
        raise argparse.ArgumentTypeError(f"there is a set named {path.name!r} already: {text!r}")
    try:
        SETS[path.name] = partial(class_folders, load_image_folder(path))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    return path.name


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--l2", type=float, help="penalty; by default the data choose it")
    arguments = parser.parse_args()
    print("| images | backbone | accuracy | macro F1 | best l2 | its accuracy |")
    print("|---|---|---|---|---|---|")
    for name in arguments.sets:
        for backbone in arguments.backbones:
            print(line(name, backbone, arguments.l2 or "auto"), flush=True)


def line(name, backbone, first_l2):
    X, X_test, y, y_test = SETS[name]()
    options = BACKBONES[backbone] | ({"pixel_range": (0, 16)} if name == "digits" else {})
    classifier = TransferClassifier(backbone, l2=first_l2, **options).fit(X, y)
    predicted = classifier.predict(X_test)
    accuracy, f1 = np.mean(predicted == y_test), f1_score(y_test, predicted, average="macro")
    scores = {l2: classifier.set_params(l2=l2).fit(X, y).score(X_test, y_test) for l2 in L2_VALUES}
    best = max(scores, key=scores.get)
    return f"| {name} | {backbone} | {accuracy:.3f} | {f1:.3f} | {best:.1e} | {scores[best]:.3f} |"


if __name__ == "__main__":
    main()
