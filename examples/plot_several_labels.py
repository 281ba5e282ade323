"""Which two of ten sports are side by side in a picture: several labels for an image.

    python examples/plot_several_labels.py                            # about two minutes
    python examples/plot_several_labels.py --figure pairs.png         # and pictures with labels

Each picture is a pair of photographs of two sports, made of those in
``FOLDER/sports10/{train,valid,test}/CLASS/IMAGE``: pairs of training photographs to learn from, and
of the others to test. All lines of the table share the activations of one frozen network.
"""

import sys
import time

import numpy as np
import pandas as pd
from common import (
    add_cache,
    backbone_to_be_had,
    images_of,
    options,
    pyplot,
    show,
    table,
    weights_note,
)
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier

from transferclf import TransferClassifier

# Side of the network's input in pixels, pairs to train on and to test on.
SIZES = {"quick": (32, 60, 20), "default": (160, 800, 300), "full": (224, 1600, 600)}

HEADER = ("method", "mean average precision", "micro F1", "all labels right", "CPU seconds")

SHOWN = 6  # pictures in the figure


def main():
    parser = options(__doc__)
    add_cache(parser, "memory")
    parser.add_argument("--backbone", default="mobilenet_v2", help="a name of list_backbones()")
    arguments = parser.parse_args()
    folder = arguments.data / "sports10"
    image_size, n_train, n_test = SIZES[arguments.size]
    rng = np.random.default_rng(arguments.seed)
    X, Y = pairs_of(*images_of(folder, "train"), n_train, rng)
    X_test, Y_test = pairs_of(*images_of(folder, ["valid", "test"]), n_test, rng)
    backbone, image_size = backbone_to_be_had(arguments.backbone, image_size, X)
    common = {
        "backbone": backbone,
        "image_size": image_size,
        "resize": "stretch",  # the middle square would show half of each photograph
        "cache": arguments.cache,
        "random_state": arguments.seed,
    }

    rows = []
    for name, classifier in methods(common).items():
        start = time.process_time()
        classifier.fit(X, Y)
        seconds = time.process_time() - start
        rows.append((name, *scores(classifier, X_test, Y_test), seconds))
        print(f"{name}: {seconds:.0f} CPU seconds", file=sys.stderr)

    text = table(HEADER, rows) + "\n" + note(len(X), len(X_test), common, arguments)
    show(text, arguments.output)
    if arguments.figure:
        draw(methods(common)["several labels"].fit(X, Y), X_test[:SHOWN], arguments.figure)


def pairs_of(paths, names, number, rng):
    """So many pairs of photographs of two classes, and a table of 0 and 1 of their labels."""
    pictures, rows, labels = [], [], np.unique(names)
    for _ in range(number):
        both = rng.choice(labels, 2, replace=False)
        chosen = [paths[rng.choice(np.flatnonzero(names == label))] for label in both]
        pictures.append(np.hstack([square_of(path) for path in chosen]))
        rows.append(np.isin(labels, both))
    return np.stack(pictures), pd.DataFrame(np.array(rows, int), columns=labels)


def square_of(path, side=160):
    """The middle square of a photograph as pixels."""
    with Image.open(path) as image:
        short = min(image.size)
        left, top = ((length - short) // 2 for length in image.size)
        cropped = image.convert("RGB").crop((left, top, left + short, top + short))
        return np.asarray(cropped.resize((side, side)))


def methods(common):
    """A classifier for each line of the table."""
    tuned = TunedThresholdClassifierCV(TransferClassifier(**common), scoring="f1", cv=3)
    return {
        "several labels": TransferClassifier(**common),
        "balanced weights": TransferClassifier(class_weight="balanced", **common),
        "a threshold for each label": MultiOutputClassifier(tuned),
    }


def scores(classifier, X, Y):
    """Mean average precision, micro F1, and the share of images with all labels right."""
    probabilities, predicted = classifier.predict_proba(X), classifier.predict(X)
    if isinstance(probabilities, list):  # of a classifier for each label
        probabilities = np.stack([both[:, 1] for both in probabilities], axis=1)
    return (
        average_precision_score(Y, probabilities),
        f1_score(Y, predicted, average="micro"),
        float((predicted == Y).all(axis=1).mean()),
    )


def note(n_train, n_test, common, arguments):
    backbone = common["backbone"]
    return (
        f"{n_train:,} pairs to train on, {n_test} to test on; backbone {backbone}"
        f"{weights_note(backbone)}, {common['image_size']} pixels, seed {arguments.seed}.\n"
    )


def draw(classifier, pictures, path):
    """Pictures, each above its labels and their probabilities."""
    plt = pyplot()

    figure, axes = plt.subplots(2, SHOWN // 2, figsize=(10, 5), layout="constrained")
    probabilities = classifier.predict_proba(pictures)
    for axis, picture, of_image in zip(axes.ravel(), pictures, probabilities, strict=True):
        best = np.argsort(of_image)[::-1][:3]
        lines = [f"{classifier.classes_[label]} {of_image[label]:.0%}" for label in best]
        axis.imshow(picture)
        axis.set_title("\n".join(lines), fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
