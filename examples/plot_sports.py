"""Compare a slowly trained head, fine-tuning and the default on photographs of ten sports.

    python examples/plot_sports.py                             # about a minute
    python examples/plot_sports.py --full --cache features     # more epochs

First the original network predicts which of ImageNet's thousand classes the photographs show. Few
of these classes are sports. Then four classifiers are compared. The first repeats a report on such
photographs: its steps are so small that the head does not reach its optimum. The second makes up
for this by training the head and the last three layers with larger steps. The default reaches the
optimum of the head at once, and needs no tuning.
The images are in ``FOLDER/sports10/{train,valid,test}/CLASS/IMAGE``.
"""

import sys
import time
from collections import Counter

import numpy as np
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

from transferclf import TransferClassifier, predict_imagenet
from transferclf.exceptions import WeightsError

SPLITS = ("train", "valid", "test")

# Input size in pixels, epochs of the head with small steps, epochs of fine-tuning.
SIZES = {"quick": (32, 1, 1), "default": (160, 20, 10), "full": (224, 40, 20)}

HEADER = ("method", "valid", "test", "report", "CPU seconds")

# Accuracy in the report, on other photographs of such sports.
REPORTED = {"head, steps of 1e-5": 0.61, "and the last 3 layers, steps of 1e-4": 0.907}


def main():
    parser = options(__doc__)
    add_cache(parser, "memory")
    parser.add_argument(
        "--backbone",
        default="mobilenet_v2",
        help="tiny, efficientnet_lite0, or of keras.applications",
    )
    arguments = parser.parse_args()
    (X, y), valid, test = (images_of(arguments.data / "sports10", split) for split in SPLITS)
    image_size, epochs, fine_tune_epochs = SIZES[arguments.size]
    backbone, image_size = backbone_to_be_had(arguments.backbone, image_size, X)
    common = {
        "backbone": backbone,
        "image_size": image_size,
        "cache": arguments.cache,
        "random_state": arguments.seed,
    }

    as_it_is = "" if backbone == "tiny" else imagenet_table(backbone, *test)
    rows, curves = [], {}
    for name, classifier in methods(epochs, fine_tune_epochs, common).items():
        start = time.process_time()
        # The validation images only draw the training history. Nothing is chosen by them.
        classifier.fit(X, y, validation_data=valid)
        seconds = time.process_time() - start
        accuracies = classifier.score(*valid), classifier.score(*test)
        rows.append((name, *accuracies, REPORTED.get(name), seconds))
        curves[name] = classifier.history_["val_accuracy"]
        print(f"{name}: {accuracies[1]:.3f} in {seconds:.0f} CPU seconds", file=sys.stderr)

    n_images = [len(y), len(valid[1]), len(test[1])]
    text = as_it_is + table(HEADER, rows) + "\n" + note(n_images, common, arguments)
    show(text, arguments.output)
    if arguments.figure:
        draw(curves, arguments.figure)


def methods(epochs, fine_tune_epochs, common):
    """Return a classifier for each row of the table."""
    slow = {"optimizer": "adam", "learning_rate": 1e-5, "epochs": epochs, **common}
    last_three = {
        "trainable_layers": 3,
        "fine_tune_epochs": fine_tune_epochs,
        "fine_tune_learning_rate": 1e-4,
    }
    return {
        "head, steps of 1e-5": TransferClassifier(**slow),
        "and the last 3 layers, steps of 1e-4": TransferClassifier(**slow, **last_three),
        "default": TransferClassifier(**common),
        "default and the last 3 layers": TransferClassifier(**common, **last_three),
    }


def imagenet_table(backbone, X, y):
    """Return a table of the ImageNet classes that the original network predicts for each sport."""
    try:
        best = [top[0].name.replace("_", " ") for top in predict_imagenet(backbone, X, top=1)]
    except WeightsError as error:
        print(f"note: without ImageNet classes, because the weights cannot be loaded. {error}")
        return ""
    rows = []
    for sport in np.unique(y):
        seen = Counter(name for name, label in zip(best, y, strict=True) if label == sport)
        names = (f"{name} ({n})" if n > 1 else name for name, n in seen.most_common(3))
        rows.append((sport, ", ".join(names)))
    return table(("sport", f"{backbone} as it is sees"), rows) + "\n"


def note(n_images, common, arguments):
    backbone, (n_train, n_valid, n_test) = common["backbone"], n_images
    less = "" if arguments.size == "full" else " This is a reduced run; --full does more."
    return (
        f"{n_train:,} images to train on, {n_valid} and {n_test} to measure on, so one image is "
        f"{1 / n_test:.2f}; backbone {backbone}{weights_note(backbone)}, "
        f"{common['image_size']} pixels, seed {arguments.seed}. The report had other photographs "
        f"of such sports.{less}\n"
    )


def draw(curves, path):
    """Draw the accuracy on validation images after each epoch or iteration."""
    plt = pyplot()

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, values in reversed(curves.items()):  # the first curves are short: draw them on top
        axes.plot(np.arange(1, len(values) + 1), values, ".-", label=name)
    axes.set(xlabel="epoch, or iteration of L-BFGS", ylabel="accuracy on valid", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
