"""Accuracy of the default classifier by the number of training images of each class.

    TRANSFERCLF_DATA=... python benchmarks/images_per_class.py [--sets ...] [--backbones ...]

Each cell is the mean over three random choices of training images, with nothing set. The test
images are those of benchmarks/accuracy.py. A class with fewer images gives all. Each image goes
through a network once, because all choices share stored features. Prints a Markdown table.
"""

import argparse

import numpy as np
from accuracy import SETS

from transferclf import TransferClassifier

BACKBONES = ("tiny", "efficientnet_lite0")
NUMBERS = (5, 10, 20, 50, 100)
SEEDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["sports10", "animals35"])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    arguments = parser.parse_args()
    print(f"| images | classes | backbone | {' | '.join(map(str, NUMBERS))} |")
    print(f"|{'---|' * (3 + len(NUMBERS))}")
    for name in arguments.sets:
        data = SETS[name]()
        for backbone in arguments.backbones:
            cells = (f"{mean_accuracy(data, backbone, number):.3f}" for number in NUMBERS)
            n_classes = len(np.unique(data[2]))
            print(f"| {name} | {n_classes} | {backbone} | {' | '.join(cells)} |", flush=True)


def mean_accuracy(data, backbone, number):
    """Return the accuracy with so many training images of each class."""
    X, X_test, y, y_test = data
    scores = []
    for seed in range(SEEDS):
        some = few_of_each_class(y, number, np.random.RandomState(seed))
        classifier = TransferClassifier(backbone, random_state=0).fit(X[some], y[some])
        scores.append(classifier.score(X_test, y_test))
    return np.mean(scores)


def few_of_each_class(y, number, rng):
    """Return indices of at most `number` samples of each class."""
    orders = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
    return np.concatenate([order[:number] for order in orders])


if __name__ == "__main__":
    main()
