"""Features of two networks in scikit-learn's own classifiers: alone, side by side, and stacked.

    python examples/plot_stacking.py                             # sports10, about a minute
    python examples/plot_stacking.py --full --cache features     # animals, three networks

`CNNFeatureExtractor` is a transformer: what follows it in a pipeline is scikit-learn. Stacking
fits each pipeline six times (five folds, and all images); every image still goes through each
network once, because the extractors share a store. The images are in
``FOLDER/sports10/{train,valid,test}/CLASS/IMAGE`` and ``FOLDER/caltech_animals35/CLASS/IMAGE``.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferclf import CNNFeatureExtractor, FeatureStore, load_image_folder
from transferclf.exceptions import WeightsError

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Folder, networks, and the side in pixels at which they see the images.
SIZES = {
    "quick": ("sports10", ("tiny",), 32),
    "default": ("sports10", ("tiny", "mobilenet_v2_035"), 160),
    "full": ("caltech_animals35", ("tiny", "mobilenet_v2_035", "mobilenet_v2"), 160),
}
TINY_SIZE = 96  # above this, the bundled network, which learned from small images, is no better
FOLDS = 5


def main():
    arguments = parsed_arguments()
    name_of_set, backbones, image_size = SIZES[arguments.size]
    X_train, X_test, y_train, y_test = load_images(arguments.data / name_of_set, arguments.seed)
    # None is in memory. A store of our own counts what it is asked for.
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

    text = table(rows) + "\n" + note(name_of_set, extractors, y_train, y_test, arguments)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    if arguments.figure:
        draw(rows, arguments.figure)


def methods(extractors):
    """A classifier for each line of the table."""
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


def parsed_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("TRANSFERCLF_DATA", SHARED / "data"))
    parser.add_argument("--data", type=Path, default=default, help="holds the folders of images")
    parser.add_argument("--backbones", nargs="+", help="names of list_backbones()")
    parser.add_argument("--cache", help="a folder that keeps features")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the animals")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    parser.add_argument("--figure", type=Path, help="draw the results into this file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="size", action="store_const", const="full", default="default")
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="to see that it runs"
    )
    return parser.parse_args()


def load_images(folder, seed):
    if not folder.is_dir():
        sys.exit(
            f"There is no {folder}: give --data (or set TRANSFERCLF_DATA to) a folder with "
            "sports10/{train,valid,test}/CLASS/IMAGE and caltech_animals35/CLASS/IMAGE."
        )
    if folder.name == "sports10":
        train = load_image_folder(folder, split="train")
        test = load_image_folder(folder, split=["valid", "test"])
        return train.data, test.data, train.target, test.target
    animals = load_image_folder(folder)
    X, y = animals.data, animals.target
    return train_test_split(X, y, test_size=0.15, stratify=y, random_state=seed)


def extractors_to_be_had(backbones, image_size, store, X):
    """An extractor for each network whose weights can be had."""
    extractors = {}
    for name in backbones:
        size = min(image_size, TINY_SIZE) if name == "tiny" else image_size
        extractor = CNNFeatureExtractor(name, image_size=size, cache=store)
        try:
            extractors[name] = extractor.fit(X[:1])
        except WeightsError as error:
            print(f"note: without {name!r}. {error}")
    if len(extractors) < 2:
        print("note: the block before the last of 'tiny' takes the place of a second network")
        extractors["tiny, block 2"] = CNNFeatureExtractor(
            "tiny", image_size=min(image_size, TINY_SIZE), layer="block2_unit2_add", cache=store
        )
    return extractors


def table(rows):
    lines = [
        "| features and classifier | accuracy | macro F1 | images computed | CPU seconds |",
        "|---|---|---|---|---|",
    ]
    for name, accuracy, f1, computed, seconds in rows:
        lines.append(f"| {name} | {accuracy:.3f} | {f1:.3f} | {computed:,} | {seconds:.1f} |")
    return "\n".join(lines) + "\n"


def note(name, extractors, y_train, y_test, arguments):
    less = "" if arguments.size == "full" else " This is a reduced run; --full takes more."
    networks = ", ".join(
        f"{name}{weights_note(name)} at {extractor.image_size} pixels"
        for name, extractor in extractors.items()
    )
    return (
        f"{name}: {len(y_train):,} images to train on, {len(y_test)} to test on; {networks}; "
        f"seed {arguments.seed}. Images computed are those that went through a network for this "
        f"line; all others were stored.{less}\n"
    )


def weights_note(backbone):
    home = os.environ.get("KERAS_HOME")
    is_recovered = home is not None and Path(home).resolve() == SHARED / "keras"
    if backbone == "mobilenet_v2" and is_recovered:
        return " (recovered weights, not the official ones)"
    return ""


def draw(rows, path):
    """Bars of all accuracies."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.exit("The figure needs matplotlib: pip install matplotlib")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [row[0] for row in rows][::-1]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    bars = axes.barh(names, [row[1] for row in rows][::-1], color="tab:blue")
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.set(xlabel="accuracy on the test images", xlim=(0, 1.1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
