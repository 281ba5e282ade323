"""Accuracy of the default penalty and of fine-tuning on real images, over five folds.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/defaults.py [--sets ...] [--store DIR]

The table has three accuracies for each set and backbone, over five stratified folds: of the
default classifier, of the best of thirteen `l2` values chosen on the held-out folds, and of the
default head fine-tuned together with the last layers. Sets of less than a thousand images are
split five times. With one split of 348 images, the best of thirteen is two points above the others
by chance alone. Prints a Markdown table and says which promises hold.
"""

import argparse
from pathlib import Path

import numpy as np
from accuracy import L2_VALUES, SETS
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from transferclf import TransferClassifier

CHECKED = ("sports10", "animals35", "blood_smear", "cifar10")
# The backbone, its input size, and the layers trained after the head.
BACKBONES = {
    "tiny": {"image_size": None, "trainable_layers": "block4"},
    "mobilenet_v2": {"image_size": 96, "trainable_layers": 3},
}
POINT = 0.01
FEW = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(CHECKED))
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--store", type=Path, default=None, help="folder for activations")
    arguments = parser.parse_args()
    print("| images | backbone | default | best of 13 `l2` | holds | fine-tuned | holds |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.sets:
        for backbone in arguments.backbones:
            print(line(name, backbone, arguments.store or "memory"), flush=True)


def line(name, backbone, store):
    X, y = images(name)
    options = dict(BACKBONES[backbone])
    layers = options.pop("trainable_layers")
    classifier = TransferClassifier(backbone, cache=store, random_state=0, **options)
    default = accuracy(classifier, X, y)
    by_l2 = {l2: accuracy(classifier.set_params(l2=l2), X, y) for l2 in L2_VALUES}
    best = max(by_l2, key=by_l2.get)
    tuned = accuracy(classifier.set_params(l2="auto", trainable_layers=layers), X, y)
    return (
        f"| {name} | {backbone} | {default:.3f} | {by_l2[best]:.3f} ({best:.0e}) | "
        f"{default >= by_l2[best] - POINT} | {tuned:.3f} | {tuned >= default - POINT} |"
    )


def images(name):
    """Return all images of a set, of all splits; of CIFAR-10 only the training images."""
    X, X_test, y, y_test = SETS[name]()
    return (X, y) if name == "cifar10" else (np.r_[X, X_test], np.r_[y, y_test])


def accuracy(classifier, X, y):
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=1 if len(y) >= FEW else 5, random_state=0)
    return cross_val_score(classifier, X, y, cv=folds, error_score="raise").mean()


if __name__ == "__main__":
    main()
