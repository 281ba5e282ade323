"""Augmentation: recipes, their effect on pixels, fixed views, and mixing in training."""

import dataclasses
import hashlib
import inspect
import json
import random
import subprocess
import sys
import textwrap
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from sklearn.base import BaseEstimator, clone

from transferclf._parameters import ParameterSet
from transferclf.augmentation.afresh import Augmenter
from transferclf.augmentation.recipe import PRESETS, Augmentation, augmentation_from
from transferclf.augmentation.steps import Brightness, Colour, Contrast, Geometry, Noise, vary
from transferclf.augmentation.views import View
from transferclf.engines.backend import compiled
from transferclf.exceptions import ImageError, InvalidParameterError

EVERYTHING = Augmentation(
    rotation=20,
    shift=0.1,
    zoom=0.2,
    shear=10,
    horizontal_flip=True,
    vertical_flip=True,
    brightness=0.2,
    contrast=0.3,
    saturation=0.2,
    hue=20,
    noise=4,
)
FLIPS = Augmentation(horizontal_flip=True, vertical_flip=True)


def images(n, height=9, width=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


def digests(n, start=0):
    return [bytes([number]) * 32 for number in range(start, start + n)]


GEOMETRY = (
    "rotation", "shift_y", "shift_x", "zoom", "shear", "horizontal_flip", "vertical_flip"
)  # fmt: skip


def moved(pixels, **values):
    drawn = np.array([[values.get(name, 0) for name in GEOMETRY]], np.float32)
    return varied(pixels, (Geometry, drawn))


def varied(pixels, *steps):
    """Return pixels after steps, each with its drawn amounts."""
    return np.asarray(
        vary(pixels, [kind.apply for kind, _ in steps], [drawn for _, drawn in steps])
    )


def column(*amounts):
    return np.array(amounts, np.float32)[:, None]


# --- a set of parameters


@dataclasses.dataclass
class Stripes(ParameterSet):
    width: object = 3
    colours: object = ("red",)


class Owner(BaseEstimator):
    def __init__(self, augmentation=None):
        self.augmentation = augmentation


def test_parameters_are_stored_as_given():
    colours = ["red"]
    assert Stripes(colours=colours).get_params()["colours"] is colours
    assert Stripes().get_params(deep=False) == {"width": 3, "colours": ("red",)}


def test_set_params_sets_all_parameters_or_none():
    stripes = Stripes()
    assert stripes.set_params(width=5) is stripes
    assert stripes.set_params() is stripes
    with pytest.raises(InvalidParameterError, match=r"Stripes has .*'width', 'colours'.*'wide'"):
        stripes.set_params(width=7, wide=1)
    assert stripes.width == 5


def test_scikit_learn_sets_nested_parameters():
    owner = Owner(Augmentation(rotation=5))
    assert owner.get_params()["augmentation__rotation"] == 5
    owner.set_params(augmentation__rotation=10)
    assert owner.augmentation.rotation == 10
    with pytest.raises(InvalidParameterError, match="'rotate'"):
        owner.set_params(augmentation__rotate=10)
    copy = clone(owner).set_params(augmentation__rotation=20)
    assert copy.augmentation == Augmentation(rotation=20)
    assert owner.augmentation.rotation == 10
    assert "rotation=10" in repr(owner)
    assert "Augmentation" in owner._repr_html_()


def test_clone_copies_parameters():
    recipe = Augmentation(rotation=5, views=2)
    assert clone(recipe) == recipe
    assert clone(recipe) is not recipe


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), [1]),
        (1, np.int64(1)),
        (1, 1.0),
        (0.5, np.float32(0.5)),
        (0, -0.0),
        ((1, (2, 3)), [1, np.array([2, 3])]),
        (True, np.bool_(True)),
        (None, None),
        (0.5, Fraction(1, 2)),
    ],
)
def test_equal_values_have_equal_digests(one, other):
    assert Stripes(one).digest == Stripes(other).digest


def test_different_values_have_different_digests():
    values = [1, 2, True, None, "1", (1,), (1, 1), ((1,), 1), (), "", 1e300, float("nan"), 0.1]
    assert len({Stripes(value).digest for value in values}) == len(values)
    assert Stripes(1, 2).digest != Stripes(2, 1).digest
    assert Stripes().digest != dataclasses.make_dataclass(
        "Bars", [("width", object, 3), ("colours", object, ("red",))], bases=(ParameterSet,)
    )().digest  # fmt: skip


@pytest.mark.parametrize("value", [object(), {1: 2}, b"bytes", {1}, [object()], 1j])
def test_values_without_a_digest_are_refused(value):
    with pytest.raises(InvalidParameterError, match="expected numbers, strings"):
        _ = Stripes(value).digest


# --- the recipe


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_copies_that_pass_their_check(name):
    recipe = augmentation_from(name)
    recipe.check()
    assert recipe == PRESETS[name]
    assert recipe.varies
    assert not recipe.mixes
    recipe.set_params(rotation=99)
    assert PRESETS[name].rotation != 99


def test_recipes_are_returned_unchanged():
    recipe = Augmentation(mixup=0.2)
    assert augmentation_from(recipe) is recipe
    assert augmentation_from(None) is None
    assert (recipe.mixes, recipe.varies) == (True, False)


@pytest.mark.parametrize("value", ["Medium", "", 1, True, [], {"rotation": 1}, Augmentation, 0.0])
def test_values_that_are_no_recipe_are_refused(value):
    with pytest.raises(InvalidParameterError, match="augmentation must be None, 'light'"):
        augmentation_from(value)


def test_the_nearest_preset_is_named():
    with pytest.raises(InvalidParameterError, match="Did you mean 'medium'"):
        augmentation_from("meduim")


NUMBERS = ("rotation", "shift", "zoom", "shear", "brightness", "contrast", "saturation", "hue")


@pytest.mark.parametrize("name", [*NUMBERS, "noise", "mixup", "cutmix", "views"])
@pytest.mark.parametrize(
    "value", [-1, np.nan, np.inf, -np.inf, True, "1", None, [1], np.ones(1), 1j, -(10**400)]
)
def test_invalid_numbers_are_refused(name, value):
    with pytest.raises(InvalidParameterError, match=f"{name} of Augmentation must be a "):
        augmentation_from(dataclasses.replace(FLIPS, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation", 180.5),
        ("shift", 1),
        ("zoom", 1),
        ("shear", 61),
        ("brightness", 1.01),
        ("contrast", 2),
        ("saturation", 1.5),
        ("hue", 181),
        ("noise", 256),
        ("mixup", 10**400),
        ("cutmix", 101),
        ("views", 0),
        ("views", 2.0),
        ("horizontal_flip", 1),
        ("vertical_flip", "yes"),
        ("horizontal_flip", None),
    ],
)
def test_values_beyond_their_range_are_refused(name, value):
    with pytest.raises(InvalidParameterError, match=f"{name} of Augmentation must be "):
        augmentation_from(dataclasses.replace(EVERYTHING, **{name: value}))


def test_the_ends_of_the_ranges_are_accepted():
    most = Augmentation(180, 0.999, 0.999, 60, np.True_, False, 1, 1, 1, 180, 255, 100, 100, 1)
    most.check()
    varied = View(most, 1).of(images(3), digests(3))
    assert 0 <= varied.min() < varied.max() <= 255


def test_numbers_of_any_type_are_accepted():
    recipe = Augmentation(np.float32(3), noise=Fraction(1, 2), views=np.int64(7))
    recipe.check()
    plain = Augmentation(3.0, noise=0.5, views=7)
    np.testing.assert_array_equal(
        View(recipe, 1).of(images(3), digests(3)), View(plain, 1).of(images(3), digests(3))
    )


@pytest.mark.parametrize("recipe", [Augmentation(), Augmentation(views=9)])
def test_a_recipe_that_changes_nothing_is_refused(recipe):
    with pytest.raises(InvalidParameterError, match=r"something to vary.* augmentation=None"):
        recipe.check()


# --- effects on pixels


def test_amounts_of_zero_change_no_pixel():
    pixels = images(3)
    np.testing.assert_array_equal(varied(pixels), pixels)
    np.testing.assert_array_equal(moved(pixels[:1]), pixels[:1])


@pytest.mark.parametrize(("height", "width"), [(9, 12), (8, 5), (1, 1), (1, 7)])
def test_flips_are_exact(height, width):
    pixels = images(1, height, width)
    np.testing.assert_array_equal(moved(pixels, horizontal_flip=-1), pixels[:, :, ::-1])
    np.testing.assert_array_equal(moved(pixels, vertical_flip=-0.1), pixels[:, ::-1])
    both = moved(pixels, horizontal_flip=-1, vertical_flip=-1)
    np.testing.assert_array_equal(both, pixels[:, ::-1, ::-1])
    np.testing.assert_array_equal(moved(pixels, horizontal_flip=1), pixels)


@pytest.mark.parametrize("side", [8, 9])
def test_a_quarter_turn_equals_numpys_rot90(side):
    pixels = images(1, side, side)
    turned = np.rot90(pixels, axes=(1, 2))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(moved(pixels, rotation=90)[:, 1:-1, 1:-1], turned, atol=0.01)


def test_half_a_turn_of_an_oblong_equals_two_flips():
    pixels = images(1)
    turned = pixels[:, ::-1, ::-1][:, 1:-1, 1:-1]
    np.testing.assert_allclose(moved(pixels, rotation=180)[:, 1:-1, 1:-1], turned, atol=0.01)


def test_a_rotation_keeps_angles_in_an_oblong():
    pixels = np.zeros((1, 9, 15, 3))
    pixels[0, 4] = 255  # a bar along the middle row
    turned = moved(pixels, rotation=90)[0, :, :, 0]
    np.testing.assert_allclose(turned[:, 7], 255, atol=0.01)
    np.testing.assert_allclose(turned[:, [5, 9]], 0, atol=0.01)


def test_shifts_by_whole_pixels_are_exact_and_mirror_the_edge():
    pixels = images(1, 8, 12)
    down = moved(pixels, shift_y=0.25)
    np.testing.assert_array_equal(down[:, 2:], pixels[:, :-2])
    np.testing.assert_array_equal(down[:, :2], pixels[:, 1::-1])
    left = moved(pixels, shift_x=-0.25)
    np.testing.assert_array_equal(left[:, :, :-3], pixels[:, :, 3:])


def test_zoom_magnifies_about_the_centre():
    pixels = images(1, 9, 9)
    wide = moved(pixels, zoom=1)  # twice the size
    np.testing.assert_array_equal(wide[:, ::2, ::2], pixels[:, 2:7, 2:7])
    small = moved(pixels, zoom=-0.5)
    np.testing.assert_array_equal(small[:, 2:7, 2:7], pixels[:, ::2, ::2])


def test_the_smallest_zoom_gives_finite_pixels():
    small = moved(images(1), zoom=-1)
    assert np.isfinite(small).all()
    assert small.max() > 0


def test_shear_moves_rows_by_their_height():
    pixels = images(1, 9, 15)
    sheared = moved(pixels, shear=45)
    for row in range(2, 7):  # the top goes to the right
        expected = np.roll(pixels[0, row], 4 - row, axis=0)
        np.testing.assert_allclose(sheared[0, row, 4:-4], expected[4:-4], atol=0.01)


def test_one_resampling_agrees_with_separate_steps():
    # A smooth image, because resampling twice loses detail.
    y, x = np.mgrid[:40, :60]
    pixels = np.stack([3 * x + y, 2 * y + x, 200 - x - y], axis=-1)[None].astype(np.float32)
    once = moved(pixels, rotation=15, shear=8, zoom=0.2, shift_x=0.05, horizontal_flip=-1)
    by_steps = pixels
    for step in ({"horizontal_flip": -1}, {"shear": 8}, {"rotation": 15}, {"zoom": 0.2},
                 {"shift_x": 0.05}):  # fmt: skip
        by_steps = moved(by_steps, **step)
    inner = (slice(None), slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(once[inner], by_steps[inner], atol=0.5)


def test_brightness_and_contrast_multiply_pixels():
    pixels = images(2).astype(np.float32)
    bright = varied(pixels, (Brightness, column(-0.5, 1)))
    np.testing.assert_array_equal(bright[0], pixels[0] / 2)
    np.testing.assert_array_equal(bright[1], np.minimum(pixels[1] * 2, 255))
    flat = varied(pixels, (Contrast, column(-1, 0.5)))
    means = pixels.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(flat[0], np.broadcast_to(means[0], flat[0].shape), atol=1e-3)
    expected = np.clip(means[1] + 1.5 * (pixels[1] - means[1]), 0, 255)
    np.testing.assert_allclose(flat[1], expected, atol=1e-3)


def recoloured(pixels, saturation=0.0, hue=0.0):
    return varied(pixels, (Colour, np.array([[saturation, hue]], np.float32)))


def test_gray_images_keep_their_colour():
    gray = np.repeat(images(1)[..., :1], 3, axis=-1)
    np.testing.assert_allclose(recoloured(gray, 0.7, 77), gray, atol=0.01)


def test_saturation_scales_the_distance_from_gray():
    pixels = 100 + images(1) / 10
    gray = (pixels @ [0.299, 0.587, 0.114])[..., None]
    for saturation in (-1, -0.4, 0, 0.5):
        expected = gray + (1 + saturation) * (pixels - gray)
        np.testing.assert_allclose(recoloured(pixels, saturation), expected, atol=0.01)


def test_hue_turns_colours_and_keeps_lightness():
    pixels = 100 + images(1) / 10
    lightness = [0.299, 0.587, 0.114]
    turned = recoloured(pixels, hue=70)
    np.testing.assert_allclose(turned @ lightness, pixels @ lightness, atol=0.01)
    assert np.abs(turned - pixels).mean() > 3
    back = recoloured(turned, hue=-70)
    np.testing.assert_allclose(back, pixels, atol=0.01)
    third = recoloured(recoloured(recoloured(pixels, hue=120), hue=120), hue=120)
    np.testing.assert_allclose(third, pixels, atol=0.01)


def test_a_third_of_a_hue_turn_makes_red_green():
    red = np.array([[[[120, 60, 60]]]])
    assert {recoloured(red, hue=angle).argmax() for angle in (120, -120)} == {1, 2}


def test_noise_is_added_last_and_clipped():
    pixels = np.full((1, 2, 2, 3), 100, np.float32)
    noise = np.full_like(pixels, 60)
    result = varied(pixels, (Brightness, column(1)), (Noise, noise))
    assert result.tolist() == np.full((1, 2, 2, 3), 255).tolist()
    np.testing.assert_array_equal(varied(pixels, (Noise, -2 * noise)), 0 * pixels)


def test_amounts_of_the_caller_are_not_changed():
    drawn = np.array([[20, 0.1, 0.1, 0.2, 10, -1, 1]], np.float32)
    before = drawn.copy()
    varied(images(1), (Geometry, drawn))
    np.testing.assert_array_equal(drawn, before)


def test_unused_steps_are_left_out():
    assert Augmentation(views=9).steps == ()
    assert [type(step) for step in EVERYTHING.steps] == [
        Geometry, Contrast, Brightness, Colour, Noise
    ]  # fmt: skip
    assert Augmentation(brightness=0.5).steps == (Brightness(0.5),)
    pixels = images(1)
    bright = View(Augmentation(brightness=0.5), 1).of(pixels, digests(1))
    gain = bright[0].max() / pixels.max()
    assert gain != 1
    np.testing.assert_allclose(bright, np.minimum(pixels * gain, 255), rtol=1e-5)


class Draws:
    """Random source that numbers amounts in the order of the draws."""

    def __init__(self):
        self.n_drawn = 0

    def amounts(self, amplitudes):
        first, self.n_drawn = self.n_drawn, self.n_drawn + len(amplitudes)
        return list(range(first, self.n_drawn))

    def noise(self, deviation):
        return f"noise {deviation:g}"


def test_draws_of_a_step_do_not_depend_on_other_steps():
    everything = EVERYTHING.draw(Draws())
    assert everything == [[0, 1, 2, 3, 4, 5, 6], [8], [7], [9, 10], "noise 4"]
    assert EVERYTHING.n_amounts() == 11
    assert Augmentation(hue=3).draw(Draws()) == [[9, 10]]
    assert Augmentation(contrast=0.1, noise=2).draw(Draws()) == [[8], "noise 2"]


def test_keras_settings_do_not_change_pixels():
    pixels = images(2)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    try:
        result = moved(pixels[:1], horizontal_flip=-1)
        mixed = Augmenter(Augmentation(noise=1, mixup=1, cutmix=1))(pixels, np.eye(2), np.ones(2))
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
    np.testing.assert_array_equal(result, pixels[:1, :, ::-1])
    assert {keras.backend.standardize_dtype(each.dtype) for each in mixed} == {"float32"}


# --- views


def test_a_view_of_flips_is_one_of_the_four():
    pixels = images(40)
    seen = set()
    for image, result in zip(pixels, View(FLIPS, 1).of(pixels, digests(40)), strict=True):
        four = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
        seen |= {number for number, each in enumerate(four) if (each == result).all()}
        assert any((each == result).all() for each in four)
    assert seen == {0, 1, 2, 3}


@settings(max_examples=15, deadline=None)
@given(data=st.data(), n=st.integers(1, 7), recipe=st.sampled_from([EVERYTHING, FLIPS]))
def test_the_rest_of_the_batch_changes_no_bit(data, n, recipe):
    pixels, names = images(7), digests(7)
    chosen = data.draw(st.permutations(range(7)))[:n]
    whole = View(recipe, 2).of(pixels, names)
    part = View(recipe, 2).of(pixels[chosen], [names[number] for number in chosen])
    np.testing.assert_array_equal(part, whole[chosen])


def views_of_photographs():
    """Return digests of views of two larger images; another process computes them too."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 200, 150, 3)).astype(np.uint8)
    view = View(PRESETS["strong"], 3)
    return [view.digest, hashlib.sha256(view.of(pixels, [b"one", b"two"])).hexdigest()]


def test_views_are_the_same_in_another_process(in_another_process):
    code = f"""
        import hashlib, json
        import numpy as np
        from transferclf.augmentation.recipe import PRESETS
        from transferclf.augmentation.views import View
        {textwrap.indent(inspect.getsource(views_of_photographs), " " * 8).strip()}
        print(json.dumps(views_of_photographs()))
    """
    assert json.loads(in_another_process(code)) == views_of_photographs()


def test_views_differ_by_number_recipe_and_image():
    pixels = np.repeat(images(1), 2, axis=0)
    other = dataclasses.replace(EVERYTHING, rotation=21)
    results = [
        *View(EVERYTHING, 1).of(pixels, digests(2)),
        *View(EVERYTHING, 2).of(pixels, digests(2)),
        *View(other, 1).of(pixels, digests(2)),
    ]
    assert len({result.tobytes() for result in results}) == len(results)


def test_views_are_equal_by_their_digest():
    view = View(Augmentation(rotation=5), 1)
    same = View(Augmentation(rotation=np.float64(5), views=9, mixup=0.5, cutmix=1), np.int64(1))
    assert view == same
    assert hash(view) == hash(same)
    assert view != View(Augmentation(rotation=5), 2)
    assert view != View(Augmentation(rotation=6), 1)
    assert view != "view"
    changes = dict.fromkeys(("horizontal_flip", "vertical_flip"), True)
    changes |= dict.fromkeys(NUMBERS[1:-1], 0.5)
    others = [View(Augmentation(rotation=5, **{name: v}), 1) for name, v in changes.items()]
    assert len({view.digest, *(other.digest for other in others)}) == len(changes) + 1


def test_mixing_does_not_change_the_pixels_of_a_view():
    pixels = images(2)
    mixing = dataclasses.replace(EVERYTHING, mixup=0.3, views=7)
    one, other = (View(each, 1).of(pixels, digests(2)) for each in (EVERYTHING, mixing))
    np.testing.assert_array_equal(one, other)


def test_a_view_keeps_a_copy_of_its_recipe():
    recipe = Augmentation(rotation=5)
    view = View(recipe, 1)
    recipe.set_params(rotation=50)
    assert view == View(Augmentation(rotation=5), 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.number = 2


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "1", None, np.nan])
def test_invalid_view_numbers_are_refused(number):
    with pytest.raises(InvalidParameterError, match="number of a view"):
        View(FLIPS, number)


def test_views_refuse_an_invalid_recipe():
    with pytest.raises(InvalidParameterError, match="rotation"):
        View(Augmentation(rotation=-1), 1)


def test_views_accept_integers_and_floats_and_do_not_change_them():
    whole = images(2)
    floats = whole.astype(np.float32)
    for pixels in (whole, floats):
        pixels.setflags(write=False)
    before = whole.copy()
    one, other = (View(EVERYTHING, 1).of(pixels, digests(2)) for pixels in (whole, floats))
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(whole, before)
    assert (one != whole).any()
    assert one.min() >= 0
    assert one.max() <= 255


def test_views_accept_images_that_are_not_contiguous():
    pixels = images(4)
    turned = pixels.transpose(0, 2, 1, 3)[::2]
    one = View(EVERYTHING, 1).of(turned, digests(2))
    np.testing.assert_array_equal(one, View(EVERYTHING, 1).of(turned.copy(), digests(2)))


def test_views_of_no_images_are_empty():
    assert View(EVERYTHING, 1).of(images(0), []).shape == (0, 9, 12, 3)


@pytest.mark.parametrize(
    ("shape", "n"),
    [((2, 4, 4, 3), 1), ((2, 4, 4, 3), 3), ((4, 4, 3), 4), ((1, 4, 4, 1), 1), ((1, 4, 4, 4), 1)],
)
def test_pixels_of_another_shape_are_refused(shape, n):
    with pytest.raises(ImageError, match=r"expected pixels of shape \(n, h, w, 3\)"):
        View(FLIPS, 1).of(np.zeros(shape), digests(n))


def test_noise_has_its_standard_deviation():
    grey = np.full((4, 40, 40, 3), 128, np.uint8)
    noise = View(Augmentation(noise=10), 1).of(grey, digests(4)) - 128
    assert 9.5 < noise.std() < 10.5
    assert abs(noise.mean()) < 0.5


def test_amounts_stay_in_their_ranges():
    grey = np.full((200, 2, 2, 3), 100, np.uint8)
    bright = View(Augmentation(brightness=0.2), 1).of(grey, digests(200))[:, 0, 0, 0] / 100
    assert bright.min() >= 0.8
    assert bright.max() <= 1.2
    assert bright.min() < 0.82 < 1.18 < bright.max()


# --- in training


def batch(n, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.eye(classes, dtype=np.float32)[np.arange(n) % classes]
    return images(n, 8, 6).astype(np.float32), labels, rng.uniform(0.5, 2, n).astype(np.float32)


def numbers(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in tensors]


def as_graph(function, classes=3):
    return compiled(
        function,
        keras.KerasTensor((None, 8, 6, 3), "float32"),
        keras.KerasTensor((None, classes), "float32"),
        keras.KerasTensor((None,), "float32"),
    )


@pytest.fixture(scope="module")
def in_a_graph():
    augmenter = Augmenter(dataclasses.replace(EVERYTHING, mixup=0.4, cutmix=1.0))
    return augmenter, as_graph(augmenter)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_batches_of_any_size_are_varied_in_a_graph(in_a_graph, n):
    data = batch(n)
    pixels, labels, weights = numbers(in_a_graph[1](*data))
    assert pixels.shape == data[0].shape
    assert (pixels != data[0]).any(axis=(1, 2, 3)).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert labels.min() >= 0
    assert weights.shape == (n,)


def test_calls_differ_and_repeat_from_an_equal_state(in_a_graph):
    augmenter, function = in_a_graph
    runs = []
    for seed in (1, 1, 2):
        augmenter.seed_generator.state.assign(np.array([seed, 0], np.uint32))
        runs.append([numbers(function(*batch(4)))[0] for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()
    assert (runs[0][0] != runs[2][0]).any()


def test_it_works_inside_a_compiled_loop():
    augmenter = Augmenter(dataclasses.replace(EVERYTHING, mixup=0.4, cutmix=1.0))

    def means(pixels, labels, weights):
        def step(number, sums):
            mixed = augmenter(pixels, labels, weights)
            means = ops.stack([ops.mean(mixed[0]), ops.mean(ops.sum(mixed[1], axis=1))])
            return sums + ops.one_hot(number, 3)[:, None] * means

        return ops.fori_loop(0, 3, step, ops.zeros((3, 2)))

    result = ops.convert_to_numpy(as_graph(means)(*batch(5)))
    assert len(set(result[:, 0])) == 3
    np.testing.assert_allclose(result[:, 1], 1, atol=1e-6)


def test_an_augmenter_accepts_integer_pixels_and_classes():
    pixels, labels, _ = batch(3)
    result = Augmenter(FLIPS)(pixels.astype(np.uint8), labels.astype(int), np.ones(3, int))
    assert {keras.backend.standardize_dtype(each.dtype) for each in result} == {"float32"}


def test_labels_and_weights_stay_the_same_without_mixing():
    data = batch(3)
    _, labels, weights = numbers(Augmenter(EVERYTHING)(*data))
    np.testing.assert_array_equal(labels, data[1])
    np.testing.assert_array_equal(weights, data[2])


def test_flips_in_training_are_exact():
    pixels, *rest = batch(30)
    result = numbers(Augmenter(Augmentation(horizontal_flip=True))(pixels, *rest))[0]
    is_flipped = (result == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_flipped | (result == pixels).all(axis=(1, 2, 3))).all()
    assert 5 < is_flipped.sum() < 25


def grey_levels(n, height=8, width=6):
    """Return images of one grey each, so that a mixed pixel shows its share, and their greys."""
    levels = np.linspace(0, 255, n, dtype=np.float32)
    return np.broadcast_to(levels[:, None, None, None], (n, height, width, 3)).copy(), levels


@pytest.mark.parametrize("recipe", [Augmentation(mixup=0.4), Augmentation(cutmix=1.0)])
def test_labels_have_the_shares_of_the_pixels(recipe):
    pixels, levels = grey_levels(32)
    augmenter = Augmenter(recipe)
    mixed, labels, weights = numbers(augmenter(pixels, np.eye(32), np.ones(32)))
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), labels @ levels, atol=0.01)
    np.testing.assert_allclose(weights, 1, atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert ((labels > 0).sum(axis=1) == 2).sum() > 10


def test_cutmix_pastes_one_box():
    pixels, levels = grey_levels(32)
    mixed = numbers(Augmenter(Augmentation(cutmix=1.0))(pixels, np.eye(32), np.ones(32)))[0]
    assert np.isin(mixed, levels).all()
    for image, level in zip(mixed[..., 0], levels, strict=True):
        rows, columns = np.nonzero(image != level)
        if len(rows):
            box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(np.unique(box)) == 1


def test_mixup_and_cutmix_each_change_some_images():
    pixels, levels = grey_levels(64)
    both = Augmentation(mixup=1.0, cutmix=1.0)
    mixed, labels, _ = numbers(Augmenter(both)(pixels, np.eye(64), np.ones(64)))
    is_blended = ~np.isin(mixed, levels).all(axis=(1, 2, 3))
    assert 10 < is_blended.sum() < 54
    assert np.ptp(mixed[is_blended], axis=(1, 2, 3)).max() < 1e-3
    assert np.ptp(mixed[~is_blended], axis=(1, 2, 3)).max() > 1
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), labels @ levels, atol=0.01)


def test_mixed_labels_are_weighted_by_sample_weights():
    pixels, levels = grey_levels(16)
    given = np.random.default_rng(0).uniform(0.5, 3, 16)
    given[3] = 0
    mixed, labels, weights = numbers(Augmenter(Augmentation(mixup=1.0))(pixels, np.eye(16), given))
    for number in range(16):
        partner = next((k for k in np.nonzero(labels[number])[0] if k != number), None)
        if partner is None or labels[number, number] == 0:
            continue
        share = (mixed[number, 0, 0, 0] - levels[partner]) / (levels[number] - levels[partner])
        own, other = share * given[number], (1 - share) * given[partner]
        np.testing.assert_allclose(weights[number], own + other, rtol=1e-3)
        np.testing.assert_allclose(labels[number, number], own / (own + other), atol=1e-3)
    assert labels[3, 3] == 0
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)


def test_images_without_weight_keep_labels_that_sum_to_one():
    data = batch(6)
    _, labels, weights = numbers(Augmenter(Augmentation(mixup=0.2))(*data[:2], np.zeros(6)))
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(weights, np.zeros(6))


@pytest.mark.parametrize("alpha", [1e-300, 1e-4, 0.01, 0.2, 1.0, 100.0])
def test_shares_follow_the_beta_distribution(alpha):
    n = 2000
    augmenter = Augmenter(Augmentation(mixup=alpha))
    shares = ops.convert_to_numpy(augmenter._beta(n, alpha))
    assert np.isfinite(shares).all()
    assert shares.min() >= 0
    assert shares.max() <= 1
    deviation = np.sqrt(1 / (4 * (2 * max(alpha, 1e-3) + 1)))
    assert abs(shares.mean() - 0.5) < 5 * deviation / np.sqrt(n)
    assert abs(shares.std() - deviation) < 0.1 * deviation


def test_an_augmenter_keeps_a_copy_of_its_recipe():
    recipe = Augmentation(horizontal_flip=True)
    augmenter = Augmenter(recipe)
    recipe.set_params(brightness=1.0)
    result = numbers(augmenter(*batch(8)))[0]
    np.testing.assert_array_equal(np.sort(result, axis=2), np.sort(batch(8)[0], axis=2))


# --- global state


def keras_seed():
    return ops.convert_to_numpy(keras.src.random.seed_generator.global_seed_generator().state)


def test_global_random_states_stay_the_same():
    keras_before = keras_seed()
    random_before, numpy_before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    name = keras.src.utils.naming.auto_name("seed_generator")
    everything = dataclasses.replace(EVERYTHING, mixup=1, cutmix=1)
    View(everything, 1).of(images(2), digests(2))
    Augmenter(everything)(*batch(2))
    assert random.getstate() == random_before
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    np.testing.assert_array_equal(keras_seed(), keras_before)
    following = keras.src.utils.naming.auto_name("seed_generator")
    assert int(following.rsplit("_", 1)[1]) == int((name + "_0").split("_")[2]) + 1


def test_recipes_and_views_import_no_keras():
    code = """
        import sys
        from transferclf.augmentation.recipe import Augmentation, augmentation_from
        from transferclf.augmentation.views import View
        View(augmentation_from("strong"), 1).digest
        assert not {"keras", "tensorflow", "sklearn"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=300)
