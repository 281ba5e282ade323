"""Ten kinds of 32 x 32 photographs: what each part of a network trained from nothing brings.

    python examples/plot_scratch_networks.py           # 1,000 images, few epochs
    python examples/plot_scratch_networks.py --full    # all 12,500 images
    python examples/plot_scratch_networks.py --full --only deeper

A perceptron on the pixels, then a network of two blocks of two convolutions, then that with
varied images, whitening, a third block, and batch normalisation before or after the activations.
The images are a part of CIFAR-10, in ``FOLDER/cifar10_subset/{train,test}/CLASS/IMAGE``.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from transferclf import Augmentation, ConvNet, TransferClassifier, load_image_folder

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SPLITS = ("train", "test")

# Images of each class to train on, epochs.
SIZES = {"quick": (8, 1), "default": (100, 5), "full": (None, 12)}


def main():
    arguments = parsed_arguments()
    (X, y), (X_test, y_test) = (load_images(arguments.data, split) for split in SPLITS)
    n_images, epochs = SIZES[arguments.size]
    X, y = some_of_each_class(X, y, n_images, arguments.seed)

    rows, curves = [], {}
    for name, classifier in methods(epochs, arguments.seed).items():
        if arguments.only not in name:
            continue
        start = time.perf_counter()
        # Only to draw the course of training: nothing is chosen by it.
        classifier.fit(X, y, validation_data=(X_test, y_test))
        seconds = time.perf_counter() - start
        curves[name] = classifier.history_["val_accuracy"]
        n_weights = classifier.model_.count_params()
        trained = classifier.history_["accuracy"][-1]
        rows.append((name, n_weights, trained, classifier.score(X_test, y_test), seconds))
        print(f"{name}: {rows[-1][3]:.3f} in {seconds:.0f} s", file=sys.stderr)
    if not rows:
        sys.exit(f"No method has {arguments.only!r} in its name.")

    text = table(rows) + "\n" + note(arguments, len(y), epochs)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    if arguments.figure:
        draw(curves, arguments.figure)


def methods(epochs, seed):
    """A classifier for each line of the table."""
    common = {"epochs": epochs, "batch_size": 64, "lr_schedule": "cosine", "random_state": seed}
    varied = Augmentation(shift=0.1, horizontal_flip=True)

    base = {"filters": (32, 64), "convs_per_block": 2, "dropout": (0.25, 0.25, 0.5)}
    deeper = {"filters": (32, 64, 128), "convs_per_block": 2, "dropout": (0.25, 0.25, 0.25, 0.5)}

    def classifier(network, **options):
        return TransferClassifier(network, **options, **common)

    perceptron = ConvNet(filters=(), dense_units=(512, 256), dropout=0.4)
    return {
        "perceptron on the pixels": classifier(perceptron),
        "base": classifier(ConvNet(**base)),
        "base, augmented": classifier(ConvNet(**base), augmentation=varied),
        "base, augmented, whitened": classifier(
            ConvNet(**base), augmentation=varied, preprocessing="zca"
        ),
        "deeper, augmented": classifier(ConvNet(**deeper), augmentation=varied),
        "deeper, augmented, batch norm before": classifier(
            ConvNet(**deeper, batch_norm="before"), augmentation=varied
        ),
        "deeper, augmented, batch norm after": classifier(
            ConvNet(**deeper, batch_norm="after"), augmentation=varied
        ),
    }


def parsed_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("TRANSFERCLF_DATA", DATA))
    parser.add_argument("--data", type=Path, default=default, help="holds cifar10_subset")
    parser.add_argument("--only", default="", help="only methods with this in their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    parser.add_argument("--figure", type=Path, help="draw the course of training into this file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="size", action="store_const", const="full", default="default")
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="to see that it runs"
    )
    return parser.parse_args()


def load_images(folder, split):
    if not (folder / "cifar10_subset" / split).is_dir():
        sys.exit(
            f"There is no {folder / 'cifar10_subset' / split}: give --data (or set "
            "TRANSFERCLF_DATA to) a folder with cifar10_subset/{train,test}/CLASS/IMAGE."
        )
    bunch = load_image_folder(folder / "cifar10_subset", split=split)
    return bunch.data, np.array(bunch.target_names)[bunch.target]


def some_of_each_class(X, y, number, seed):
    """So many images of each class, or all of them."""
    order = np.random.default_rng(seed).permutation(len(y))
    kept = np.sort(np.concatenate([order[y[order] == name][:number] for name in np.unique(y)]))
    return X[kept], y[kept]


def table(rows):
    lines = [
        "| network | weights | training accuracy | test accuracy | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, n_weights, trained, tested, seconds in rows:
        lines.append(f"| {name} | {n_weights:,} | {trained:.3f} | {tested:.3f} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def note(arguments, n_images, epochs):
    less = "" if arguments.size == "full" else " This is a reduced run; --full takes all images."
    return (
        f"{n_images:,} training images, {epochs} epochs each, seed {arguments.seed}. Training "
        "accuracy is that of the last epoch as it went, with dropout and on varied images. A "
        "report on 25 other classes went by such steps from 0.35 over 0.43 and 0.61 to 0.70."
        f"{less}\n"
    )


def draw(curves, path):
    """Accuracy on the test images after each epoch."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.exit("The figure needs matplotlib: pip install matplotlib")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, accuracies in curves.items():
        axes.plot(range(1, len(accuracies) + 1), accuracies, "o-", markersize=3, label=name)
    axes.set(xlabel="epoch", ylabel="accuracy on test")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
