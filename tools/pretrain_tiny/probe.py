"""Measure by linear probes how well the features of ``tiny`` transfer to other images.

Features of the whole image (short side resized, centre crop) are pooled, standardised and given to
logistic regression. The best C is chosen on the test set, so the accuracies are upper bounds and
only compare backbones.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[2] / "src" / "transferclf" / "backbones"))
import tiny  # by its file, because only this network is needed

COSTS = tuple(10.0**power for power in range(-4, 2))


def read_image(path: Path, size: int) -> np.ndarray:
    """Read an upright RGB image, its short side resized to ``size``, cropped to the centre."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))


def read_folder(folder: Path, size: int, per_class: int | None = None):
    """Read ``folder/CLASS/*``: all images of each class, or ``per_class`` random ones."""
    rng, images, labels = np.random.RandomState(0), [], []
    for class_folder in sorted(p for p in folder.iterdir() if p.is_dir()):
        paths = sorted(class_folder.iterdir())
        if per_class is not None:
            paths = [paths[i] for i in rng.choice(len(paths), per_class, replace=False)]
        images += [read_image(path, size) for path in paths]
        labels += [class_folder.name] * len(paths)
    return np.stack(images), np.array(labels)


def read_digits(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 8 x 8 digits of scikit-learn, upsampled."""
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).astype("uint8")
    resized = [Image.fromarray(p).convert("RGB").resize((size, size), 2) for p in pixels]
    return np.stack([np.asarray(image) for image in resized]), digits.target


def split(images, labels, share: float):
    """Split with stratification; return training images, labels, test images, labels."""
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=share, stratify=labels, random_state=0
    )
    return x_train, y_train, x_test, y_test


def tasks(root: Path, size: int) -> Iterator[tuple[str, tuple]]:
    """Yield the name and (train images, labels, test images, labels) of each task."""
    sports = root / "sports10"
    parts = [read_folder(sports / part, size) for part in ("valid", "test")]
    test = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    yield "sports10", (*read_folder(sports / "train", size), *test)
    yield "animals35", split(*read_folder(root / "caltech_animals35", size), 0.15)
    for name, folder, n_test in (
        ("cifar10", "cifar10_subset", 100),
        ("blood_cells4", "blood_cells4", 150),
    ):
        train = read_folder(root / folder / "train", size, 300)
        yield name, (*train, *read_folder(root / folder / "test", size, n_test))
    yield "digits", split(*read_digits(size), 0.25)


def pooled_features(model, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Return average-pooled activations of uint8 images."""
    parts = np.split(images, range(batch, len(images), batch))
    outputs = [model(part.astype("float32") / 127.5 - 1, training=False) for part in parts]
    return np.concatenate([np.asarray(output).mean((1, 2)) for output in outputs])


def probe(x_train, y_train, x_test, y_test) -> tuple[float, float, float]:
    """Return the best test accuracy over C, and the macro F1 and the C of that fit."""
    scores = []
    for cost in COSTS:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=300))
        predicted = classifier.fit(x_train, y_train).predict(x_test)
        accuracy = float(np.mean(predicted == y_test))
        scores.append((accuracy, f1_score(y_test, predicted, average="macro"), cost))
    return max(scores)


def main() -> None:
    """Read the command line and print one table row per task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRANSFERCLF_DATA", "."))
    parser.add_argument("--size", type=int, default=96)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops at 300 iterations
    model = tiny.build_tiny()
    tiny.load_tiny_weights(model)
    for name, (x_train, y_train, x_test, y_test) in tasks(args.data, args.size):
        train, test = pooled_features(model, x_train), pooled_features(model, x_test)
        accuracy, f1, cost = probe(train, y_train, test, y_test)
        print(f"| {name} | {len(y_test)} | {accuracy:.3f} | {f1:.3f} | {cost:g} |", flush=True)


if __name__ == "__main__":
    main()
