"""CNNFeatureExtractor: images in, named features out."""

import pickle

import numpy as np
import pytest
from exactness import assert_rows_agree
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import CNNFeatureExtractor
from transferclf.backbones.tiny import WIDTH
from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (10, 40, 50, 3), dtype=np.uint8)


def tiny(**options):
    return CNNFeatureExtractor("tiny", **{"image_size": 32, **options})


def test_features_are_the_pooled_output_of_the_network(images):
    from transferclf.backbones.registry import get_backbone
    from transferclf.backbones.weights import build_backbone
    from transferclf.images import check_images

    features = tiny().fit_transform(images)
    model = build_backbone(get_backbone("tiny"), "pretrained", (32, 32), 0)
    source = check_images(images)
    pixels = np.stack([source.load(i, (32, 32)) for i in range(10)]).astype(np.float32)
    maps = model.predict(pixels / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(features, maps.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
    assert features.dtype == np.float32


@pytest.mark.parametrize(
    ("pooling", "width"), [("avg", WIDTH), ("max", WIDTH), ("flatten", 2 * 2 * WIDTH)]
)
def test_each_pooling_gives_its_width_and_feature_names(images, pooling, width):
    extractor = tiny(pooling=pooling, image_size=64).fit(images)
    assert extractor.transform(images).shape == (10, width)
    names = extractor.get_feature_names_out()
    assert names[0] == f"tiny_{pooling}_0"
    assert len(set(names)) == width == extractor.n_features_out_


def test_several_layers_give_their_features_side_by_side(images):
    first = tiny(layer="block1_unit1_relu1").fit_transform(images)
    last = tiny(layer="top_levels").fit_transform(images)
    both = tiny(layer=["block1_unit1_relu1", "top_levels"]).fit(images)
    np.testing.assert_allclose(
        both.transform(images), np.hstack([first, last]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(last, tiny().fit_transform(images), rtol=1e-4, atol=1e-5)
    names = both.get_feature_names_out()
    assert names[0] == "tiny_block1_unit1_relu1_avg_0"
    assert names[first.shape[1]] == "tiny_top_levels_avg_0"


def test_an_unknown_layer_is_an_error_that_lists_the_layers(images):
    with pytest.raises(NetworkError, match=r"layer='block9' is no layer.*top_relu"):
        tiny(layer="block9").fit(images)


@pytest.mark.parametrize("layer", [5, [None], ["top_relu", 3], ["top_relu", "top_relu"]])
def test_layers_must_be_names(images, layer):
    with pytest.raises(InvalidParameterError, match="layer must be"):
        tiny(layer=layer).fit(images)


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_resize_modes_give_different_features(images, resize):
    others = {"crop", "stretch", "pad"} - {resize}
    mine = tiny(resize=resize).fit_transform(images)
    for other in others:
        assert not np.allclose(mine, tiny(resize=other).fit_transform(images))


def test_features_train_a_classifier_in_a_pipeline(images):
    y = np.arange(10) % 2
    images[y == 1] //= 4
    pipeline = make_pipeline(tiny(), StandardScaler(), LogisticRegression())
    assert pipeline.fit(images, y).score(images, y) == 1.0


def test_the_extractor_works_in_a_feature_union(images):
    union = FeatureUnion([("a", tiny()), ("b", tiny(layer="stem_relu"))]).fit(images)
    assert union.transform(images).shape == (10, WIDTH + 16)
    assert union.get_feature_names_out()[0] == "a__tiny_avg_0"


def test_pandas_output_has_the_feature_names(images):
    pytest.importorskip("pandas")
    table = tiny().set_output(transform="pandas").fit_transform(images)
    assert table.shape == (10, WIDTH)
    assert table.columns[-1] == f"tiny_avg_{WIDTH - 1}"


def test_all_kinds_of_input_give_the_same_features(images, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    extractor = tiny(cache=None)
    expected = extractor.fit_transform(images)
    for X in (paths, [Image.open(path) for path in paths], images / 255):
        assert_rows_agree(extractor.transform(X), expected)
        assert_rows_agree(clone(extractor).fit_transform(X), expected)


def test_16_bit_gray_and_minmax_are_scaled(rng):
    deep = rng.integers(0, 65536, (4, 32, 32), dtype=np.uint16)
    np.testing.assert_allclose(
        tiny().fit_transform(deep), tiny().fit_transform(deep / 65535), rtol=1e-3, atol=1e-4
    )
    dark = (deep // 64).astype(np.uint16)
    low, high = dark.min(axis=(1, 2)).tolist(), dark.max(axis=(1, 2)).tolist()
    stretched = tiny(pixel_range="minmax").fit_transform(dark)
    by_hand = tiny(pixel_range=(low[0], high[0])).fit_transform(dark[:1])
    assert_rows_agree(stretched[:1], by_hand)


def test_large_jpegs_decoded_at_reduced_scale_have_the_same_features(tmp_path, rng):
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    path = tmp_path / "large.jpg"
    coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=92)
    whole = Image.open(path)
    whole.load()
    reduced, full = (tiny().fit_transform(X)[0] for X in ([path], [whole]))
    cosine = reduced @ full / np.linalg.norm(reduced) / np.linalg.norm(full)
    assert cosine >= 0.999


def test_pickles_are_fitted_and_clones_are_not(images):
    extractor = tiny().fit(images)
    twin = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(twin.transform(images), extractor.transform(images))
    with pytest.raises(NotFittedError):
        clone(extractor).transform(images)


def test_transform_keeps_the_state_and_checks_its_images(images):
    extractor = tiny().fit(images)
    before = dict(vars(extractor))
    extractor.transform(images)
    assert vars(extractor) == before
    with pytest.raises(ImageError, match="X is empty"):
        extractor.transform(images[:0])
