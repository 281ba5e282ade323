"""What the one pass saves: a grid search with and without the store, and heads by one thread.

    python benchmarks/one_pass.py

Two claims, each measured against its alternative in the same process, in turns: the median of
CPU seconds decides, the best wall time stands beside it. The limit of a search is one forward pass
over the distinct images plus the bare heads; it is printed too.
"""

import statistics
import time

import numpy as np
from sklearn.model_selection import GridSearchCV

import transferclf.training.linear as linear
from transferclf import TransferClassifier
from transferclf.features import shared_store

ROUNDS = 3
N_IMAGES, SIDE, N_CLASSES = 200, 96, 5
GRID = {"l2": [1e-3, 1e-2, 1e-1]}


def main():
    rng = np.random.default_rng(0)
    labels = np.arange(N_IMAGES) % N_CLASSES
    images = rng.integers(0, 256, (N_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    features = rng.normal(size=(400, 1280)).astype(np.float32)
    targets = np.arange(400) % N_CLASSES
    TransferClassifier("tiny").fit(images[:40], labels[:40])  # builds and compiles

    print("| what | CPU s, median | wall s, best | ratio of CPU |")
    print("|---|---|---|---|")
    compare(
        {
            "search, 3 settings, 5 folds, features stored": lambda: search(
                images, labels, "memory"
            ),
            "the same, nothing stored": lambda: search(images, labels, None),
            "limit: one pass and 16 bare heads": lambda: one_pass(images, labels),
        }
    )
    compare(
        {
            "60 heads on 400 x 1280, one BLAS thread": lambda: heads(features, targets, 2**60),
            "the same, all BLAS threads": lambda: heads(features, targets, 0),
        }
    )


def search(images, labels, cache):
    shared_store().clear()
    GridSearchCV(TransferClassifier("tiny", cache=cache), GRID, cv=5).fit(images, labels)


def one_pass(images, labels):
    shared_store().clear()
    classifier = TransferClassifier("tiny").fit(images, labels)
    features = classifier._features_of(images)
    for _ in range(15):
        linear.fit_linear(
            features[:160], labels[:160], N_CLASSES, l2=0.01, sample_weight=np.ones(160)
        )


def heads(features, targets, small_problem):
    linear.SMALL_PROBLEM = small_problem
    for l2 in np.logspace(-4, 0, 12):
        for _ in range(5):
            linear.fit_linear(
                features, targets, N_CLASSES, l2=l2, sample_weight=np.ones(len(targets))
            )


def compare(candidates):
    """Print a line for each candidate, run in turns; ratios are to the first."""
    times = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    first = None
    for name, pairs in times.items():
        median = statistics.median(pair[0] for pair in pairs)
        first = first or median
        best = min(pair[1] for pair in pairs)
        print(f"| {name} | {median:.2f} | {best:.2f} | {median / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
