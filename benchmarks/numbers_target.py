"""Numbers as targets on real images, beside scikit-learn's RidgeCV on the same features.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/numbers_target.py [--backbones tiny]

The targets are constructed, so that the truth is known. "dark share" is the share of a photograph's
pixels that were dark before its contrast and brightness were changed at random. "crop fraction" is
the share of a photograph's area that a crop covers. Both regressors standardise the features and
choose among the same penalties; `TransferRegressor` starts from stored features, and its time
includes finding them. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import CNNFeatureExtractor, TransferRegressor, load_image_folder
from transferclf.training.leave_one_out import CANDIDATES

DATA = Path(os.environ.get("TRANSFERCLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
BACKBONES = {"tiny": 96, "mobilenet_v2": 160}
DARK = 64  # pixels below this are dark
ROUNDS = 3


def dark_share(photograph: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The photograph in another contrast and brightness, and its share of dark pixels before."""
    share = float((photograph.mean(axis=2) < DARK).mean())
    contrast, level = rng.uniform(0.3, 1.0), rng.uniform(90, 160)
    changed = (photograph - photograph.mean()) * contrast + level
    return changed.clip(0, 255).astype(np.uint8), share


def crop_fraction(photograph: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A crop of the photograph, and the share of the area that it covers."""
    side = np.sqrt(rng.uniform(0.1, 1.0))
    height, width = (max(1, round(side * length)) for length in photograph.shape[:2])
    top = rng.integers(photograph.shape[0] - height + 1)
    left = rng.integers(photograph.shape[1] - width + 1)
    crop = photograph[top : top + height, left : left + width]
    return crop, crop.size / photograph.size


TARGETS = {"dark share": dark_share, "crop fraction": crop_fraction}


def constructed(
    make: Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, float]],
    n_images: int | None = None,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Images made of the photographs of sports10, and the target of each."""
    rng = np.random.default_rng(0)
    paths = load_image_folder(DATA / "sports10", split="train").data
    chosen = np.sort(rng.permutation(len(paths))[:n_images])
    made = [make(np.asarray(Image.open(path).convert("RGB")), rng) for path in paths[chosen]]
    return [image for image, _ in made], np.array([value for _, value in made])


def compare(
    backbone: str, image_size: int, images: list[np.ndarray], y: np.ndarray
) -> dict[str, float]:
    """R2, RMSE and CPU seconds of both on a fourth of the images."""
    train, test = train_test_split(np.arange(len(y)), test_size=0.25, random_state=0)
    X, X_test = [images[i] for i in train], [images[i] for i in test]
    extractor = CNNFeatureExtractor(backbone, image_size=image_size)
    features = extractor.fit_transform(X).astype(float)
    own = TransferRegressor(backbone, image_size=image_size)
    other = make_pipeline(StandardScaler(), RidgeCV(alphas=len(train) * CANDIDATES))
    seconds: dict[str, list[float]] = {"own": [], "other": []}
    for number in range(ROUNDS):
        # A little noise, so that no decomposition is known from the round before.
        noise = 1 + 1e-6 * number
        seconds["own"].append(_cpu(lambda: own.fit(X, y[train], np.full(len(train), noise))))  # noqa: B023
        seconds["other"].append(_cpu(lambda: other.fit(features, y[train])))
    predicted, truth = own.predict(X_test), y[test]
    expected = other.predict(extractor.transform(X_test).astype(float))
    return {
        "r2": r2_score(truth, predicted),
        "r2 of RidgeCV": r2_score(truth, expected),
        "rmse": root_mean_squared_error(truth, predicted),
        "rmse of RidgeCV": root_mean_squared_error(truth, expected),
        "cpu": statistics.median(seconds["own"]),
        "cpu of RidgeCV": statistics.median(seconds["other"]),
    }


def _cpu(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    parser.add_argument("--images", type=int, help="how many; default: all")
    arguments = parser.parse_args()
    print("| target, backbone | R2 | of RidgeCV | RMSE | of RidgeCV | CPU s | of RidgeCV |")
    print("|---|---|---|---|---|---|---|")
    for name, make in TARGETS.items():
        images, y = constructed(make, arguments.images)
        for backbone in arguments.backbones:
            found = compare(backbone, BACKBONES[backbone], images, y)
            numbers = " | ".join(f"{value:.3g}" for value in found.values())
            print(f"| {name}, {backbone} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
