"""Extraction: each distinct image passes the prefix once, in any order and after any error."""

import numpy as np
import pytest
from extraction_helpers import extract
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transferclf import Augmentation
from transferclf.augmentation.views import View
from transferclf.exceptions import ImageReadError
from transferclf.features import FeatureStore
from transferclf.features.work import activation_keys
from transferclf.images import check_images
from transferclf.images.geometry import Sampling
from transferclf.images.loading import content_digests, looks_at


class Means:
    """Stand-in for a prefix: the mean colour of each image. It counts the images."""

    size, is_cut, sampling = (8, 8), False, Sampling()

    def __init__(self, digest="means"):
        self.digest = digest
        self.batches = []

    def forward(self):
        return self

    def __call__(self, images):
        assert images.dtype == np.float32
        self.batches.append(len(images))
        return images.mean(axis=(1, 2))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)


def test_features_have_the_order_of_the_images(images):
    features = extract(check_images(images), Means(), None)
    np.testing.assert_allclose(features, images.mean(axis=(1, 2)), rtol=1e-5)
    assert features.dtype == np.float32


def test_a_repeated_image_is_computed_once(images):
    prefix = Means()
    twice = np.concatenate([images, images[::-1]])
    features = extract(check_images(twice), prefix, None)
    assert sum(prefix.batches) == 70
    np.testing.assert_array_equal(features[:70], features[70:][::-1])


def test_stored_features_are_not_computed_again(images):
    prefix, store = Means(), FeatureStore()
    first = extract(check_images(images[:50]), prefix, store)
    again = extract(check_images(images), prefix, store)
    assert sum(prefix.batches) == 70
    np.testing.assert_array_equal(again[:50], first)


def test_a_warm_store_needs_no_network(images):
    store = FeatureStore()
    extract(check_images(images), Means(), store)
    cold = Means()
    cold.forward = lambda: pytest.fail("built a network although everything was stored")
    extract(check_images(images[::-1]), cold, store)


def test_without_a_store_features_are_computed_again(images):
    prefix = Means()
    extract(check_images(images), prefix, None)
    extract(check_images(images), prefix, None)
    assert sum(prefix.batches) == 140


def test_prefix_and_resize_mode_change_the_key(images):
    source = check_images(images)
    base = activation_keys(looks_at(source), Means(), "crop")
    assert base == activation_keys(looks_at(source), Means(), "crop")
    assert set(base).isdisjoint(activation_keys(looks_at(source), Means("other"), "crop"))
    assert set(base).isdisjoint(activation_keys(looks_at(source), Means(), "stretch"))
    assert len(set(base)) == 70


recipes = st.builds(
    Augmentation,
    rotation=st.sampled_from([0, 1, 30]),
    horizontal_flip=st.booleans(),
    noise=st.sampled_from([0.5, 2.0]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(recipes, st.integers(1, 4)), min_size=1, max_size=6))
def test_recipe_number_and_image_of_a_view_change_the_key(seen):
    source = check_images(np.arange(5 * 8 * 9 * 3, dtype=np.uint16).reshape(5, 8, 9, 3))
    looks, prefix = looks_at(source), Means()
    views = [None, *(View(recipe, number) for recipe, number in seen)]
    different = {repr((view and view.augmentation, view and view.number)) for view in views}
    keys = [key for view in views for key in activation_keys(looks, prefix, "crop", view)]
    assert len(set(keys)) == 5 * len(different)
    others = [key for view in views for key in activation_keys(looks, Means("other"), "crop", view)]
    others += [key for view in views for key in activation_keys(looks, prefix, "first", view)]
    assert set(keys).isdisjoint(others)
    again = looks_at(source)
    assert activation_keys(looks, prefix, "crop", None) == activation_keys(again, prefix, "crop")


def test_all_crops_of_a_square_image_have_one_key_at_a_square_size():
    prefix = Means()
    assert prefix.size[0] == prefix.size[1]
    square, wide = (
        looks_at(check_images(np.zeros((1, 8, width, 3), np.uint8))) for width in (8, 9)
    )
    crops, modes = ("first", "crop", "last"), ("first", "crop", "last", "stretch", "pad")
    assert len({activation_keys(square, prefix, mode)[0] for mode in crops}) == 1
    assert len({activation_keys(square, prefix, mode)[0] for mode in modes}) == 3
    assert len({activation_keys(wide, prefix, mode)[0] for mode in modes}) == 5
    prefix.size = (8, 9)
    assert len({activation_keys(square, prefix, mode)[0] for mode in modes}) == 5


def test_number_of_views_and_mixing_do_not_change_the_key(images):
    looks = looks_at(check_images(images))
    one = View(Augmentation(rotation=5, views=2), 2)
    other = View(Augmentation(rotation=5.0, views=9, mixup=0.4, cutmix=1), np.int64(2))
    of_one, of_other = (activation_keys(looks, Means(), "crop", view) for view in (one, other))
    assert of_one == of_other


def test_views_are_computed_once_and_stored(images):
    prefix, store = Means(), FeatureStore()
    source, view = (
        check_images(np.concatenate([images, images[:9]])),
        View(Augmentation(noise=9), 1),
    )
    plain = extract(source, prefix, store)
    varied = extract(source, prefix, store, view=view)
    assert sum(prefix.batches) == 140
    np.testing.assert_array_equal(varied[70:], varied[:9])
    assert np.abs(varied - plain).min(axis=0).max() > 0
    expected = view.of(images.astype(np.float32), content_digests(check_images(images)))
    np.testing.assert_allclose(varied[:70], expected.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(extract(source[3:20], prefix, store, view=view), varied[3:20])
    np.testing.assert_array_equal(extract(source, prefix, store), plain)
    assert sum(prefix.batches) == 140


def test_features_computed_before_a_bad_file_are_stored(tmp_path, images):
    paths = []
    for number, image in enumerate(images):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    whole = (tmp_path / "65.png").read_bytes()
    (tmp_path / "65.png").write_bytes(whole[: len(whole) // 2])
    prefix, store = Means(), FeatureStore()
    with pytest.raises(ImageReadError, match=r"1 of 70 .*\n  image 65 \(.*65\.png\)"):
        extract(check_images(paths), prefix, store)
    done = sum(prefix.batches)
    assert done == store.info().entries == 64

    (tmp_path / "65.png").write_bytes(whole)
    extract(check_images(paths), prefix, store)
    assert sum(prefix.batches) == 70


def test_features_computed_before_an_interruption_are_stored(images):
    store = FeatureStore()

    class Interrupted(Means):
        def __call__(self, batch):
            if self.batches:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        extract(check_images(images), Interrupted(), store)
    assert store.info().entries == 32


def test_progress_is_shown_only_on_request(images, capsys):
    extract(check_images(images), Means(), None)
    assert capsys.readouterr().out == ""
    store = FeatureStore()
    extract(check_images(images[:30]), Means(), store)
    extract(check_images(images), Means(), store, verbose=1)
    shown = capsys.readouterr().out
    assert "40 images to compute, 30 known\n" in shown
    assert shown.endswith("images/s\n")
    assert "40/40" in shown
    assert shown.count("known") == 1
