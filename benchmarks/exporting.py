"""Exported files against the estimators they were made of, on photographs.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/exporting.py [--models ...]

Each model learns from a part of the training images of animals35 and predicts 500 others. A file
is written in each format, with float32, 16 and 8 bits, and predicts the same photographs by its own
runtime: at the size of the network, and as they are where the file resizes images itself. Prints a
Markdown table, and says which promises hold.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy import SETS
from measuring import Claim, claims_table, number, table
from PIL import Image

from transferclf import ConvNet, TransferClassifier, export
from transferclf.exporting.registry import FORMATS
from transferclf.images import check_images
from transferclf.images.loading import load_all

N_TRAIN, N_TEST, N_RANGES = 700, 500, 100
SIDE = 128
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"backbone": "tiny"},
    "MobileNetV2": {"backbone": "MobileNetV2"},
    "efficientnet_lite0": {"backbone": "efficientnet_lite0"},
    "ConvNet": {"backbone": ConvNet((16, 32)), "epochs": 3},
    "fine-tuned": {"backbone": "tiny", "trainable_layers": "top"},
    "several labels": {"backbone": "tiny"},
}
FILES = {"onnx": "a.onnx", "openvino": "a.xml", "litert": "a.tflite", "saved_model": "a"}


class Figures(NamedTuple):
    """A file's results: of images of the network's size, and as they are (None: not taken)."""

    difference: float
    same_labels: float
    accuracy_lost: float
    difference_resized: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    rows, claims = [], []
    for name in arguments.models:
        for form, quantize, found in measured(name):
            resized = "" if found.difference_resized is None else number(found.difference_resized)
            bits = quantize or "float32"
            shares = f"{found.same_labels:.3f}", f"{found.accuracy_lost:+.3f}"
            rows.append((name, form, bits, number(found.difference), *shares, resized))
            print(" | ".join(rows[-1]), flush=True)
            claims.append(claim(f"{name}, {form}, {bits}", quantize, found))
    columns = (
        "model", "format", "numbers", "largest difference", "same labels", "accuracy",
        "largest difference, resized in the file",
    )  # fmt: skip
    print(f"\n{table(columns, rows)}\n\n{claims_table(claims)}")


def claim(name: str, quantize: str | None, found: Figures) -> Claim:
    if quantize is None:
        return Claim(f"{name}: difference", found.difference, 1e-4, at_least=False)
    if quantize == "float16":
        return Claim(f"{name}: share of the same labels", found.same_labels, 1.0)
    # Five of 500 images are a point, also where the difference of two means says a little more.
    return Claim(f"{name}: change of accuracy", round(found.accuracy_lost, 6), -0.01)


def measured(name: str) -> Iterator[tuple[str, str | None, Figures]]:
    """Yield format, quantization and figures of each file of a model."""
    X, _, y, _ = SETS["animals35"]()
    order = np.random.default_rng(0).permutation(len(y))[: N_TRAIN + N_TEST]
    train, test = order[:N_TRAIN], order[N_TRAIN:]
    y = np.asarray(y)
    if name == "several labels":
        first = np.array([str(label)[0] for label in y])
        y = np.stack([first < "g", first > "m", y == y[0]], axis=1).astype(int)
    classifier = TransferClassifier(image_size=SIDE, random_state=0, **MODELS[name])
    classifier.fit([X[i] for i in train], y[train])
    ranges = [X[i] for i in train[:N_RANGES]]
    sized = load_all(check_images([X[i] for i in test]), (SIDE, SIDE), classifier.resize_)
    whole = [np.asarray(Image.open(X[i]).convert("RGB")) for i in test]
    expected = classifier.predict_proba(sized)
    with tempfile.TemporaryDirectory() as folder:
        for form, file in FILES.items():
            for quantize in (None, *FORMATS[form].quantizations):
                given = ranges if quantize == "int8" else None
                path = export(classifier, Path(folder, file), quantize=quantize, X=given)
                facts, run = FORMATS[form].opened(path)
                resized = differences(run, whole, expected) if facts.takes_any_size else None
                found = np.concatenate([run(sized[i : i + 50]) for i in range(0, N_TEST, 50)])
                yield form, quantize, figures(found, expected, y[test], classifier, resized)


def differences(run: Any, images: list[np.ndarray], expected: np.ndarray) -> float:
    """Return the largest difference for images that the file resizes."""
    return max(np.abs(run(it[None]) - row).max() for it, row in zip(images, expected, strict=True))


def figures(
    found: np.ndarray,
    expected: np.ndarray,
    y: np.ndarray,
    classifier: TransferClassifier,
    resized: float | None,
) -> Figures:
    """Compare the probabilities of a file with those of its classifier."""
    decide = classifier.head_.suffix.objective.decide
    labels, others = decide(found), decide(expected)
    lost = np.mean(labels == y) - np.mean(others == y)
    return Figures(np.abs(found - expected).max(), np.mean(labels == others), lost, resized)


if __name__ == "__main__":
    main()
