"""Usable images that may not be meant this way: one warning for each cause."""

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import ImageReadError, TransferclfWarning
from transferclf.images import check_images
from transferclf.images.geometry import largest_box
from transferclf.images.pixels import DtypeRange, ValueRange
from transferclf.images.remarks import (
    looks_like_alpha,
    remark_on_other_images,
    remark_on_proportions,
    remark_on_training_images,
    sample,
)

pytestmark = pytest.mark.every_parameter  # each takes milliseconds


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(it.message) for it in caught if issubclass(it.category, TransferclfWarning)]


def at_fit(X, **options):
    source = check_images(X, **options)

    def look():
        source.decided_range()
        remark_on_training_images(source, sample(source))

    return warnings_of(look)


def at_predict(X, pixel_range):
    return warnings_of(lambda: remark_on_other_images(check_images(X, pixel_range=pixel_range)))


def saved(images, folder, ending, **options):
    paths = [str(folder / f"{number}{ending}") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(path, **options)
    return paths


def deep_images(rng, white, n=6, side=24):
    images = rng.integers(0, white + 1, (n, side, side)).astype(np.uint16)
    images[:, 0, 0] = white
    return images


def deep_colours(rng, white, n=4, channels=3):
    images = rng.integers(0, white + 1, (n, 8, 8, channels)).astype(np.uint16)
    images[:, 0, 0] = white
    return images


def tiff_of(pixels):
    """Return an uncompressed TIFF file of colours with 16 bits a channel. Pillow writes none."""
    height, width, channels = pixels.shape
    tags = [(256, width), (257, height), (258, None), (259, 1), (262, 2), (273, None)]
    tags += [(277, channels), (278, height), (279, pixels.nbytes)] + [(338, 2)] * (channels == 4)
    depths = 8 + 2 + 12 * len(tags) + 4
    values = {258: depths, 273: depths + 2 * channels}
    file = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, value in tags:
        count = channels if tag == 258 else 1
        kind = 3 if tag in (258, 338) else 4
        file += struct.pack("<HHII", tag, kind, count, values.get(tag, value))
    return file + bytes(4) + struct.pack(f"<{channels}H", *[16] * channels) + pixels.tobytes()


def png_of(pixels):
    """Return a PNG file of colours with 16 bits a channel. Pillow writes none."""
    height, width, channels = pixels.shape

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    colours = 6 if channels == 4 else 2
    head = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def colour_files(images, folder, ending):
    write = {".tif": tiff_of, ".png": png_of}[ending]
    paths = [str(folder / f"{number}{ending}") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        with open(path, "wb") as file:
            file.write(write(image))
    return paths


class TestColoursOf16Bits:
    """Pillow keeps the upper 8 bits of each channel."""

    @pytest.mark.parametrize("ending", [".tif", ".png"])
    @pytest.mark.parametrize("channels", [3, 4])
    @pytest.mark.parametrize(("white", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
    def test_a_warning_names_a_file_and_the_bits(
        self, rng, tmp_path, ending, channels, white, bits
    ):
        images = deep_colours(rng, white, channels=channels)
        images[..., 3:] = 65535
        X = colour_files(images, tmp_path, ending)
        (text,) = at_fit(X)
        assert f"such as {X[0]}, is {white >> 8} of 255" in text
        assert f"pixel_range=(0, {2**bits - 1}) if they have {bits} bits" in text
        assert at_predict(X, None) == [text]
        assert at_fit(X, pixel_range="minmax") == [text]
        assert at_fit(X, pixel_range=(0, 255)) == []

    @pytest.mark.parametrize("ending", [".tif", ".png"])
    def test_all_16_bits_give_no_warning(self, rng, tmp_path, ending):
        X = colour_files(deep_colours(rng, 40000), tmp_path, ending)
        assert at_fit(X) == []
        assert at_predict(X, None) == []

    def test_dark_colours_of_8_bits_give_no_warning(self, rng, tmp_path):
        dark = (deep_colours(rng, 4095) >> 8).astype(np.uint8)
        assert at_fit(saved(dark, tmp_path, ".tif") + saved(dark, tmp_path, ".png")) == []

    def test_an_opened_image_is_judged_as_its_file(self, rng, tmp_path):
        X = [Image.open(path) for path in colour_files(deep_colours(rng, 4095), tmp_path, ".tif")]
        (text,) = at_predict(X, None)
        assert "is 15 of 255" in text
        for image in X:
            assert image.tile  # the check does not load the caller's image
            image.close()

    @pytest.mark.parametrize("ending", [".tif", ".png"])
    def test_a_range_beyond_255_is_an_error_that_names_the_files(self, rng, tmp_path, ending):
        X = colour_files(deep_colours(rng, 4095), tmp_path, ending)
        X += saved(deep_images(rng, 4095, 1), tmp_path, ".tiff")
        classifier = TransferClassifier("tiny", image_size=32, l2=0.1, pixel_range=(0, 4095))
        with pytest.raises(ImageReadError, match=re.escape(X[0])) as caught:
            classifier.fit(X, [0, 1, 0, 1, 0])
        assert caught.value.indices == [0, 1, 2, 3]
        assert "of which Pillow keeps the upper 8" in str(caught.value)


class TestGivenRange:
    """Floats up to 1 are black where the caller says that white is 255 or more."""

    def test_divided_images_are_warned_of(self, rng):
        X = deep_images(rng, 4095) / 4095
        (text,) = at_predict(X, (0, 4095))
        assert "is 1, yet pixel_range=(0, 4095) reads it as black" in text
        assert at_fit(X, pixel_range=(0, 4095)) == [text]

    def test_divided_images_in_files_are_warned_of(self, rng, tmp_path):
        divided = (deep_images(rng, 4095) / 4095).astype(np.float32)
        X = saved(divided, tmp_path, ".tif")
        (text,) = at_fit(X, pixel_range=(0, 4095))
        assert "reads it as black" in text
        assert at_predict(X, (0, 4095)) == [text]
        assert at_predict([Image.fromarray(image) for image in divided], (0, 4095)) == [text]
        assert at_fit(saved(divided * 4095, tmp_path, ".tif"), pixel_range=(0, 4095)) == []

    @pytest.mark.parametrize("given", [(0, 1), (0, 16), (-1000, 3000), "minmax"])
    def test_other_ranges_give_no_warning(self, rng, given):
        X = deep_images(rng, 4095) / 4095
        assert at_fit(X, pixel_range=given) == []
        assert at_predict(X, given) == []

    @pytest.mark.parametrize("factor", [0, 1.01, 4095])
    def test_black_and_brighter_images_give_no_warning(self, rng, factor):
        X = deep_images(rng, 4095) / 4095 * factor
        assert at_predict(X, (0, 4095)) == []

    def test_a_fitted_classifier_warns(self, rng):
        X = deep_images(rng, 4095)
        classifier = TransferClassifier("tiny", image_size=32, l2=0.1, pixel_range=(0, 4095))
        assert warnings_of(lambda: classifier.fit(X, [0, 1] * 3).predict(X)) == []
        (text,) = warnings_of(lambda: classifier.predict(X / 4095))
        assert "before they were divided" in text


class TestDepth:
    @pytest.mark.parametrize(
        ("white", "bits"), [(200, 8), (255, 8), (1023, 10), (3899, 12), (4095, 12), (16383, 14)]
    )
    @pytest.mark.parametrize("kind", ["arrays", "list", ".tif", ".png", ".pgm", "PIL", "open"])
    def test_numbers_of_fewer_bits_are_named_with_their_white(
        self, rng, tmp_path, white, bits, kind
    ):
        images = deep_images(rng, white)
        X = images
        if kind == "list":
            X = list(images)
        elif kind == "PIL":
            X = [Image.fromarray(image) for image in images]
        elif kind == "open":
            X = [Image.open(path) for path in saved(images, tmp_path, ".tif")]
        elif kind != "arrays":
            X = saved(images, tmp_path, kind)
        (text,) = at_fit(X)
        assert f"6 images of X is {white}, yet pixels are read as 0 to 65535" in text
        assert f"pixel_range=(0, {2**bits - 1}) if they have {bits} bits" in text
        assert at_predict(X, None if kind not in ("arrays", "list") else DtypeRange(0, 65535)) == [
            text
        ]
        assert at_fit(X, pixel_range=(0, 2**bits - 1)) == []
        assert at_predict(X, (0.0, 65535.0)) == []
        if kind == "open":
            for image in X:
                assert image.tile  # the check does not load the caller's image
                image.close()

    @pytest.mark.parametrize("kind", ["arrays", ".tif", ".png"])
    def test_16_bits_give_no_warning(self, rng, tmp_path, kind):
        images = deep_images(rng, 40000)
        X = images if kind == "arrays" else saved(images, tmp_path, kind)
        assert at_fit(X) == []
        assert at_predict(X, None) == []

    def test_one_bright_image_among_dark_ones_is_enough(self, rng, tmp_path):
        images = deep_images(rng, 3000)
        images[4] *= 20
        assert at_fit(saved(images, tmp_path, ".tif")) == []

    def test_fit_and_predict_judge_the_same_numbers(self, rng):
        eight = rng.integers(0, 230, (4, 8, 8, 3)).astype(np.uint8)
        (text,) = at_predict(eight.astype(np.uint16), DtypeRange(0, 255))
        assert "pixel_range=(0, 255) if they have 8 bits" in text
        assert at_predict(eight, DtypeRange(0, 65535)) == []
        (text,) = at_predict(eight / 255, ValueRange(0, 255))
        assert "pass these on the same scale" in text
        assert at_predict(eight // 16 + 0.5, ValueRange(0, 255)) == []

    def test_a_large_image_is_examined(self, rng, tmp_path):
        large = np.zeros((2100, 2100), np.uint16)
        large[5, 5] = 4000
        (text,) = at_fit(saved([large] * 3, tmp_path, ".tif"))
        assert "the brightest pixel of 1 images" in text

    @pytest.mark.parametrize("content", [b"", b"no image", b"II*\x00" + bytes(50)])
    def test_unreadable_files_give_no_warning(self, rng, tmp_path, content):
        paths = saved(deep_images(rng, 4095), tmp_path, ".tif")
        source = check_images(paths)
        for path in paths[1:]:
            with open(path, "wb") as file:
                file.write(content)
        assert [it.position for it in sample(source)] == [0]

    def test_estimators_warn_at_fit_and_predict(self, rng, tmp_path):
        X = saved(deep_images(rng, 4095), tmp_path, ".tif")
        classifier = TransferClassifier("tiny", image_size=32, l2=0.1)
        (text,) = warnings_of(lambda: classifier.fit(X, [0, 1] * 3))
        assert "12 bits" in text
        assert warnings_of(lambda: classifier.predict(X)) == [text]
        classifier.set_params(pixel_range=(0, 4095))
        assert warnings_of(lambda: classifier.fit(X, [0, 1] * 3).predict(X)) == []


def cut_out(rng, n=4, soft=False):
    """Return photographs with a round opaque part."""
    images = rng.integers(0, 256, (n, 40, 40, 4)).astype(np.uint8)
    distance = np.hypot(*(np.mgrid[:40, :40] - 19.5))
    images[..., 3] = np.clip((15 - distance) * (80 if soft else 1000), 0, 255)
    return images


class TestBands:
    @pytest.mark.parametrize("soft", [False, True])
    def test_transparency_gives_no_warning(self, rng, soft):
        assert at_fit(cut_out(rng, soft=soft)) == []

    @pytest.mark.parametrize("opacity", [255, 128, 60])
    def test_constant_opacity_gives_no_warning(self, rng, opacity):
        images = cut_out(rng)
        images[..., 3] = opacity
        assert at_fit(images) == []

    def test_a_black_band_is_not_taken_for_transparency(self, rng):
        rgb = Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8))
        by_pillow = np.asarray(rgb.convert("CMYK"))  # its black channel is 0 everywhere
        assert not looks_like_alpha(by_pillow)
        black = 255 - np.asarray(rgb).max(axis=2)
        assert not looks_like_alpha(np.dstack([np.asarray(rgb), black]))

    @pytest.mark.parametrize(
        "dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32, np.int64]
    )
    @pytest.mark.parametrize("as_list", [False, True])
    def test_other_bands_are_named(self, rng, dtype, as_list):
        bands = rng.uniform(0.05, 0.9, (5, 24, 24, 4))
        bands *= 1 if np.dtype(dtype).kind == "f" else 250
        X = bands.astype(dtype) if dtype != np.uint16 else (bands * 200).astype(dtype)
        (text,) = at_fit(list(X) if as_list else X)
        assert "does not look like transparency" in text
        assert "X[..., :3]" in text
        assert at_fit(X[..., :3]) == []

    def test_a_given_range_keeps_the_warning(self, rng):
        X = rng.integers(200, 4000, (5, 24, 24, 4)).astype(np.uint16)
        assert len(at_fit(X, pixel_range=(0, 4095))) == 1

    def test_empty_borders_do_not_count(self, rng):
        X = rng.integers(20, 200, (5, 40, 40, 4)).astype(np.uint8)
        X[:, :, :30] = 0
        assert len(at_fit(X)) == 1

    def test_files_are_examined(self, rng, tmp_path):
        bands = rng.integers(20, 200, (5, 24, 24, 4)).astype(np.uint8)
        (text,) = at_fit(saved(bands, tmp_path, ".tif"))
        assert "fourth channel" in text
        assert at_fit(saved(cut_out(rng), tmp_path, ".tif")) == []

    def test_few_of_many_images_give_no_warning(self, rng):
        X = cut_out(rng, 9)
        X[:3] = rng.integers(20, 200, (3, 40, 40, 4))
        assert at_fit(X) == []

    def test_estimators_warn_at_fit(self, rng):
        X = rng.integers(20, 200, (4, 32, 32, 4)).astype(np.uint8)
        assert len(warnings_of(lambda: CNNFeatureExtractor("tiny", image_size=32).fit(X))) == 1


class TestProportions:
    def warnings_for(self, X, size=(32, 32), resize="crop"):
        seen = sample(check_images(X))
        return warnings_of(lambda: remark_on_proportions(seen, size, resize))

    @pytest.mark.parametrize("shape", [(10, 21), (21, 10), (1, 300), (64, 320)])
    @pytest.mark.parametrize("kind", ["arrays", ".png", "PIL"])
    def test_the_warning_names_wide_and_tall_images(self, tmp_path, shape, kind):
        X = np.zeros((4, *shape), np.uint8)
        if kind == ".png":
            X = saved(X, tmp_path, kind)
        elif kind == "PIL":
            X = [Image.fromarray(image) for image in X]
        (text,) = self.warnings_for(X)
        assert f"{shape[1]} pixels wide and {shape[0]} high" in text
        for choice in ("resize='pad'", "resize='stretch'", "image_size=(height, width)"):
            assert choice in text

    @pytest.mark.parametrize("shape", [(10, 10), (10, 20), (20, 10), (30, 40), (9, 16)])
    def test_usual_photographs_give_no_warning(self, shape):
        assert self.warnings_for(np.zeros((4, *shape), np.uint8)) == []

    @pytest.mark.parametrize("resize", ["pad", "stretch"])
    def test_resize_modes_without_a_crop_give_no_warning(self, resize):
        assert self.warnings_for(np.zeros((4, 10, 90), np.uint8), resize=resize) == []

    def test_the_warning_compares_with_the_proportions_of_the_network(self):
        wide = np.zeros((4, 20, 100), np.uint8)
        assert self.warnings_for(wide, (32, 160)) == []
        assert len(self.warnings_for(np.zeros((4, 50, 50), np.uint8), (32, 160))) == 1

    def test_images_with_orientation_count_as_displayed(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        paths = saved([np.zeros((20, 100, 3), np.uint8)] * 3, tmp_path, ".jpg", exif=exif)
        assert sample(check_images(paths))[0].size == (100, 20)
        assert self.warnings_for(paths, (160, 32)) == []
        assert len(self.warnings_for(paths, (32, 160))) == 1

    def test_the_majority_of_images_decides(self):
        wide, square = np.zeros((8, 80), np.uint8), np.zeros((8, 8), np.uint8)
        assert self.warnings_for([wide, square, wide, square, square]) == []
        assert len(self.warnings_for([wide, square, wide, wide, square])) == 1

    @given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 90), st.integers(1, 90))
    def test_a_crop_to_less_than_half_warns(self, height, width, high, wide):
        X = np.broadcast_to(np.uint8(0), (2, height, width, 3))
        left, top, right, bottom = largest_box((height, width), (high, wide))
        is_less = (right - left) * (bottom - top) / (height * width) < 0.5
        assert len(self.warnings_for(X, (high, wide))) == is_less

    @pytest.mark.parametrize("estimator", [CNNFeatureExtractor, TransferClassifier])
    def test_estimators_warn_once_at_fit(self, rng, estimator):
        X = rng.integers(0, 256, (6, 16, 64, 3)).astype(np.uint8)
        y = [0, 1] * 3
        fitted = estimator("tiny", image_size=32)
        assert len(warnings_of(lambda: fitted.fit(X, y))) == 1
        predict = fitted.transform if estimator is CNNFeatureExtractor else fitted.predict
        assert warnings_of(lambda: predict(X)) == []
        for options in ({"resize": "pad"}, {"image_size": (32, 128)}):
            assert (
                warnings_of(
                    lambda it=options: estimator("tiny", **{"image_size": 32, **it}).fit(X, y)
                )
                == []
            )


def test_only_some_of_many_images_are_examined(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    seen = sample(check_images([path] * 5000))
    assert len(seen) == 32
    assert (seen[0].position, seen[-1].position) == (0, 4999)
