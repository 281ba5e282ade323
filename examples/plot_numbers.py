"""Two numbers for each photograph: how much of it a crop shows, and how much of it was dark.

    python examples/plot_numbers.py                  # 600 photographs, about a minute
    python examples/plot_numbers.py --full           # all 1,217

The targets are made here, so that the truth is known. Each photograph is cropped at random; the
first number is the share of its area that is left. The second is the share of dark pixels in the
crop, whose contrast and brightness are then changed at random, so that no network sees it as such.
The images are in ``FOLDER/sports10/train/CLASS/IMAGE``.
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
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from transferclf import TransferRegressor

# Photographs, side in pixels, epochs of hidden layers.
SIZES = {"quick": (None, 32, 2), "default": (600, 160, 40), "full": (None, 160, 40)}
HEADER = ("method", "R2 crop", "error crop", "R2 dark", "error dark", "CPU seconds")
DARK = 64  # pixels below this are dark
WRONG = 0.05  # share of the training targets that are spoiled


def main():
    parser = options(__doc__)
    add_cache(parser, "memory")
    parser.add_argument("--backbone", default="mobilenet_v2", help="a name of list_backbones()")
    arguments = parser.parse_args()
    n_images, image_size, epochs = SIZES[arguments.size]
    X, y = made_of(images_of(arguments.data / "sports10", "train")[0], n_images, arguments.seed)
    backbone, image_size = backbone_to_be_had(arguments.backbone, image_size, X)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, random_state=arguments.seed
    )

    rows, predicted = [], {}
    for name, (regressor, targets) in methods(arguments, y_train, epochs).items():
        regressor.set_params(backbone=backbone, image_size=image_size)
        start = time.process_time()
        predicted[name] = regressor.fit(X_train, targets).predict(X_test)
        seconds = time.process_time() - start
        scores = [r2_score, mean_absolute_error]
        found = [s(y_test[c], predicted[name][:, i]) for i, c in enumerate(y_test) for s in scores]
        rows.append((name, *found, seconds))
        print(f"{name}: {found[0]:.3f} in {seconds:.0f} CPU seconds", file=sys.stderr)

    less = "" if arguments.size == "full" else " This is a reduced run; --full takes all."
    note = (
        f"{len(X_train)} images to train on, {len(X_test)} to test on; backbone "
        f"{backbone}{weights_note(backbone)}, {image_size} pixels, seed {arguments.seed}. The "
        f"error is the mean absolute one.{less}\n"
    )
    show(table(HEADER, rows) + "\n" + note, arguments.output)
    if arguments.figure:
        draw(y_test, next(iter(predicted.values())), arguments.figure)


def methods(arguments, y, epochs):
    """A regressor and training targets for each line of the table."""
    common = {"cache": arguments.cache, "random_state": arguments.seed}
    spoiled = y.copy()
    wrong = np.random.default_rng(arguments.seed).random(len(y)) < WRONG
    spoiled[wrong] += 5
    ridge, huber = TransferRegressor(**common), TransferRegressor(loss="huber", **common)
    hidden = TransferRegressor(hidden_units=(64,), dropout=0.3, epochs=epochs, **common)
    return {
        "ridge, the default": (ridge, y),
        "Huber's loss": (huber, y),
        "a hidden layer": (hidden, y),
        f"ridge, {WRONG:.0%} of the targets wrong": (ridge, spoiled),
        f"Huber's loss, {WRONG:.0%} of the targets wrong": (huber, spoiled),
    }


def made_of(paths, n_images, seed):
    """Changed crops of some photographs, and a table of both targets."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(paths))[:n_images])
    images, numbers = [], []
    for path in paths[chosen]:
        with Image.open(path) as photograph:
            pixels = np.asarray(photograph.convert("RGB"))
        crop = cropped(pixels, rng)
        numbers.append((crop.size / pixels.size, (crop.mean(axis=2) < DARK).mean()))
        images.append(changed(crop, rng))
    return images, pd.DataFrame(numbers, columns=["crop", "dark"])


def cropped(pixels, rng):
    side = np.sqrt(rng.uniform(0.1, 1.0))
    height, width = (max(1, round(side * length)) for length in pixels.shape[:2])
    top = rng.integers(pixels.shape[0] - height + 1)
    left = rng.integers(pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def changed(pixels, rng):
    contrast, level = rng.uniform(0.3, 1.0), rng.uniform(90, 160)
    return ((pixels - pixels.mean()) * contrast + level).clip(0, 255).astype(np.uint8)


def draw(truth, predicted, path):
    """True and predicted numbers of the test images."""
    plt = pyplot()

    figure, axes = plt.subplots(1, truth.shape[1], figsize=(9, 4.5), layout="constrained")
    for axis, name, values in zip(axes, truth, predicted.T, strict=True):
        ends = [min(truth[name].min(), values.min()), max(truth[name].max(), values.max())]
        axis.plot(ends, ends, color="gray", linewidth=1)
        axis.scatter(truth[name], values, s=12, alpha=0.6)
        axis.set(xlabel=f"true {name}", ylabel="predicted", aspect="equal")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
