"""Tests of classification on real photographs with real ImageNet weights.

docs/explanation/results.md has the same figures. MobileNetV2 is tested with recovered ImageNet
weights, and EfficientNet-Lite with the published ones.
"""

import os

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import (
    CNNFeatureExtractor,
    TransferClassifier,
    TransferRegressor,
    load_image_folder,
)
from transferclf.training.leave_one_out import CANDIDATES

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def sports(data):
    train = load_image_folder(data / "sports10", split="train")
    test = load_image_folder(data / "sports10", split=["valid", "test"])
    return train, test


@pytest.fixture(scope="module")
def needs_mobilenet():
    from transferclf import get_backbone
    from transferclf.backbones.weights import pretrained_file

    if pretrained_file(get_backbone("mobilenet_v2"), (160, 160)) is None:
        pytest.skip(f"no MobileNetV2 weights below KERAS_HOME={os.environ.get('KERAS_HOME')}")


@pytest.fixture(scope="module")
def animals(data):
    animals = load_image_folder(data / "caltech_animals35")
    return train_test_split(
        animals.data, animals.target, test_size=0.15, stratify=animals.target, random_state=0
    )


@pytest.mark.slow
def test_efficientnet_lite_reaches_97_percent_on_sports(sports):
    train, test = sports
    classifier = TransferClassifier("efficientnet_lite0").fit(train.data, train.target)
    assert classifier.score(test.data, test.target) >= 0.97


@pytest.mark.slow
def test_efficientnet_lite_reaches_94_5_percent_on_animals(animals):
    X, X_test, y, y_test = animals
    assert TransferClassifier("efficientnet_lite0").fit(X, y).score(X_test, y_test) >= 0.945


@pytest.mark.usefixtures("needs_mobilenet")
def test_defaults_reach_95_percent_on_sports(sports):
    train, test = sports
    classifier = TransferClassifier("mobilenet_v2", image_size=160)
    assert classifier.fit(train.data, train.target).score(test.data, test.target) >= 0.95


@pytest.mark.usefixtures("needs_mobilenet")
def test_defaults_reach_89_percent_on_animals(animals):
    X, X_test, y, y_test = animals
    classifier = TransferClassifier("mobilenet_v2", image_size=160)
    assert classifier.fit(X, y).score(X_test, y_test) >= 0.89


def test_a_regressor_is_as_good_as_ridge_cv_on_the_same_features(sports):
    train, _ = sports
    rng, images, shares = np.random.default_rng(0), [], []
    for path in train.data[:: len(train.data) // 240]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        # The share of dark pixels, before another contrast and brightness.
        shares.append((pixels.mean(axis=2) < 64).mean())
        changed = (pixels - pixels.mean()) * rng.uniform(0.3, 1) + rng.uniform(90, 160)
        images.append(changed.clip(0, 255).astype(np.uint8))
    X, X_test, y, y_test = train_test_split(images, np.array(shares), random_state=0)
    extractor = CNNFeatureExtractor("tiny", image_size=64)
    expected = make_pipeline(StandardScaler(), RidgeCV(alphas=len(X) * CANDIDATES))
    expected.fit(extractor.fit_transform(X).astype(float), y)
    found = TransferRegressor("tiny", image_size=64).fit(X, y).predict(X_test)
    at_most = root_mean_squared_error(y_test, expected.predict(extractor.transform(X_test)))
    assert root_mean_squared_error(y_test, found) <= 1.01 * at_most
    assert at_most < 0.8 * y_test.std()


def test_sports_with_the_bundled_backbone(sports):
    train, test = sports
    classifier = TransferClassifier("tiny").fit(train.data, train.target)
    assert classifier.score(test.data, test.target) >= 0.8


@pytest.mark.parametrize(
    ("backbone", "image_size"), [("tiny", 32), ("tiny", 96), ("mobilenet_v2_035", 96)]
)
@pytest.mark.parametrize(
    ("name", "short_side"), [("blood_smear", 480), ("imagenet_samples", 1200), ("sports10", 3000)]
)
def test_reduced_jpegs_keep_their_features(data, tmp_path, backbone, image_size, name, short_side):
    """Compare photographs of 0.3 to 12 megapixels as files and as decoded pixels."""
    split = "test" if name == "sports10" else None
    paths = load_image_folder(data / name, split=split).data[::10][:4]
    files = _saved([_enlarged(Image.open(path), short_side) for path in paths], tmp_path)
    extractor = CNNFeatureExtractor(backbone, image_size=image_size, cache=None)
    whole = extractor.fit_transform([np.asarray(Image.open(file)) for file in files])
    reduced = extractor.transform(files)
    cosines = np.sum(whole * reduced, axis=1)
    cosines /= np.linalg.norm(whole, axis=1) * np.linalg.norm(reduced, axis=1)
    assert cosines.min() >= 0.999


def _enlarged(image, short_side):
    scale = short_side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _saved(images, folder):
    paths = [folder / f"large-{number}.jpg" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path, quality=95)
    return paths
