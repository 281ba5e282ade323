"""Decoding at reduced scale does not change the features of photographs at 224 pixels."""

import os

import numpy as np
import pytest
from PIL import Image

from transferclf import CNNFeatureExtractor, load_image_folder

pytestmark = pytest.mark.realdata

SIZE = (224, 224)


@pytest.fixture(scope="module")
def extractor():
    from transferclf import get_backbone
    from transferclf.backbones.weights import pretrained_file

    if pretrained_file(get_backbone("mobilenet_v2"), SIZE) is None:
        pytest.skip(f"no MobileNetV2 weights below KERAS_HOME={os.environ.get('KERAS_HOME')}")
    return CNNFeatureExtractor("mobilenet_v2", image_size=SIZE, cache=None)


@pytest.mark.parametrize("name", ["blood_smear", "imagenet_samples", "sports10"])
@pytest.mark.parametrize("short_side", [864, 3000])
def test_reduced_jpegs_keep_their_features(data, tmp_path, extractor, name, short_side):
    split = "test" if name == "sports10" else None
    paths = load_image_folder(data / name, split=split).data[::10][:4]
    files = [tmp_path / f"{number}.jpg" for number in range(len(paths))]
    for path, file in zip(paths, files, strict=True):
        _large_square(Image.open(path), short_side).save(file, quality=92)
    reduced = extractor.fit_transform(files)
    pixels = extractor.transform([np.asarray(Image.open(file)) for file in files])
    assert _cosines(reduced, pixels).min() >= 0.999
    # A plain resize of all pixels differs by about as much, because it rounds to whole levels.
    plain = [np.asarray(Image.open(file).resize(SIZE, Image.Resampling.BILINEAR)) for file in files]
    assert _cosines(reduced, extractor.transform(plain)).min() >= 0.998


def _large_square(image, side):
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)


def _cosines(a, b):
    return np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
