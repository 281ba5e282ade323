"""Give features of two networks to scikit-learn's classifiers: alone, side by side and stacked.

    python examples/plot_stacking.py                             # sports10, about a minute
    python examples/plot_stacking.py --full --cache features     # animals, three networks

`CNNFeatureExtractor` is a transformer, so any scikit-learn classifier can follow it in a pipeline.
Stacking fits each pipeline six times: on five folds, and on all images. Each image still goes
through each network once, because the extractors share a store. The images are in
``FOLDER/sports10/{train,valid,test}/CLASS/IMAGE`` and ``FOLDER/caltech_animals35/CLASS/IMAGE``.
"""

import sys
import time

import numpy as np
from common import (
    add_cache,
    can_be_had,
    images_of,
    options,
    pyplot,
    show,
    size_for,
    table,
    weights_note,
)
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferclf import CNNFeatureExtractor, FeatureStore

# Folder, networks, and their input size in pixels.
SIZES = {
    "quick": ("sports10", ("tiny",), 32),
    "default": ("sports10", ("tiny", "mobilenet_v2_035"), 160),
    "full": ("caltech_animals35", ("tiny", "mobilenet_v2_035", "mobilenet_v2"), 160),
}
HEADER = ("features and classifier", "accuracy", "macro F1", "images computed", "CPU seconds")
TEST = ["valid", "test"]
FOLDS = 5


def main():
    parser = options(__doc__)
    add_cache(parser)
    parser.add_argument("--backbones", nargs="+", help="names of list_backbones()")
    arguments = parser.parse_args()
    name_of_set, backbones, image_size = SIZES[arguments.size]
    X_train, X_test, y_train, y_test = split_images(arguments.data / name_of_set, arguments.seed)
    # None keeps the store in memory. Its `misses` count the images that were not stored yet.
    store = FeatureStore(arguments.cache)
    extractors = extractors_to_be_had(arguments.backbones or backbones, image_size, store, X_train)

    rows = []
    for name, classifier in methods(extractors).items():
        before = store.info().misses
        start = time.process_time()
        predicted = classifier.fit(X_train, y_train).predict(X_test)
        seconds = time.process_time() - start
        computed = store.info().misses - before
        accuracy = np.mean(predicted == y_test)
        f1 = f1_score(y_test, predicted, average="macro")
        rows.append((name, accuracy, f1, computed, seconds))
        print(f"{name}: {accuracy:.3f} in {seconds:.0f} CPU seconds", file=sys.stderr)

    text = table(HEADER, rows) + "\n" + note(name_of_set, extractors, y_train, y_test, arguments)
    show(text, arguments.output)
    if arguments.figure:
        draw(rows, arguments.figure)


def methods(extractors):
    """Return a classifier for each row of the table."""
    found = {}
    for network, extractor in extractors.items():
        found[f"{network}, logistic regression"] = classifier_on(extractor, logistic_regression())
        found[f"{network}, SVM"] = classifier_on(extractor, SVC(C=10))
    side_by_side = make_union(*extractors.values())
    found["side by side, logistic regression"] = classifier_on(side_by_side, logistic_regression())
    found["side by side, SVM"] = classifier_on(side_by_side, SVC(C=10))
    regressions = [
        (network, classifier_on(extractor, logistic_regression()))
        for network, extractor in extractors.items()
    ]
    final = LogisticRegression(max_iter=1000)
    found["stacked logistic regressions"] = StackingClassifier(regressions, final, cv=FOLDS)
    return found


def classifier_on(features, classifier):
    return make_pipeline(features, StandardScaler(), classifier)


def logistic_regression():
    return LogisticRegression(C=0.01, max_iter=1000)


def split_images(folder, seed):
    """Return the splits of the folder; without splits, test on 15 % of each class."""
    if folder.name == "sports10":
        (X, y), (X_test, y_test) = (images_of(folder, part) for part in ("train", TEST))
        return X, X_test, y, y_test
    X, y = images_of(folder)
    return train_test_split(X, y, test_size=0.15, stratify=y, random_state=seed)


def extractors_to_be_had(backbones, image_size, store, X):
    """Return an extractor for each network whose weights are available."""
    extractors = {}
    for name in backbones:
        if can_be_had(name, image_size, X):
            size = size_for(name, image_size)
            extractors[name] = CNNFeatureExtractor(name, image_size=size, cache=store)
    if len(extractors) < 2:
        print("note: an inner block of 'tiny' replaces the second network")
        extractors["tiny, block 2"] = CNNFeatureExtractor(
            "tiny", image_size=size_for("tiny", image_size), layer="block2_unit2_add", cache=store
        )
    return extractors


def note(name, extractors, y_train, y_test, arguments):
    less = "" if arguments.size == "full" else " This is a reduced run; --full takes more."
    networks = ", ".join(
        f"{name}{weights_note(name)} at {extractor.image_size} pixels"
        for name, extractor in extractors.items()
    )
    return (
        f"{name}: {len(y_train):,} images to train on, {len(y_test)} to test on; {networks}; "
        f"seed {arguments.seed}. Images computed went through a network for this row; features of "
        f"all others were stored.{less}\n"
    )


def draw(rows, path):
    """Draw bars of all accuracies."""
    plt = pyplot()

    names = [row[0] for row in rows][::-1]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    bars = axes.barh(names, [row[1] for row in rows][::-1], color="tab:blue")
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.set(xlabel="accuracy on the test images", xlim=(0, 1.1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
