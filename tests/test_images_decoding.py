"""Files, bytes and PIL images are decoded to correct RGB pixels."""

import io
import struct
import warnings
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, ImageOps

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images import check_images, decode_image, resize_image
from transferclf.images.decoding import header
from transferclf.images.files import Contents
from transferclf.images.pixels import to_rgb

pytestmark = pytest.mark.every_parameter  # most take milliseconds

Image.init()

SIDE = 32
LOSSY = {"JPEG", "JPEG2000", "MPO", "WEBP", "AVIF", "GIF"}
# Formats without pixels (or that need another program), and formats with only a name or a stub.
NOT_FOR_PIXELS = {"PDF", "PALM", "EPS", "BUFR", "GRIB", "HDF5", "WMF"}
PILLOW = tuple(map(int, PIL.__version__.split(".")[:2]))
FORMATS = sorted((set(Image.SAVE) & {*Image.OPEN, "MPO"}) - NOT_FOR_PIXELS)
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]
EXIF_ORIENTATION = 0x0112


@pytest.fixture
def smooth():
    """Return a picture without symmetry that lossy formats keep nearly unchanged."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return np.stack([x * 7 + 10, y * 6 + 20, x * 3 + y * 3 + 30], axis=-1).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def textured(height, width):
    """Return an artificial photograph: broad shades with fine texture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / 100
    shades = 120 + 60 * np.sin(x)[..., None] * np.cos(y)[..., None] * [1, 0.6, -0.8]
    texture = rng.normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(shades + texture, 0, 255).astype(np.uint8))


def in_mode(pixels, mode):
    if mode in ("I;16", "I"):
        return Image.fromarray((pixels[..., 0] * 257.0).astype(np.uint16)).convert(mode)
    if mode == "F":
        return Image.fromarray(pixels[..., 0].astype(np.float32))
    image = Image.fromarray(pixels)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    if mode in ("La", "LA", "PA", "RGBa"):
        image = image.convert({"La": "LA", "PA": "L", "RGBa": "RGBA"}.get(mode, mode))
    return image.convert(mode)


class TestModes:
    @pytest.mark.parametrize("mode", ["RGB", "RGBX", "CMYK", "HSV", "LAB", "YCbCr", "RGBA", "RGBa"])
    def test_colour_modes_show_the_same_picture(self, mode, smooth):
        image = in_mode(smooth, mode)
        assert image.mode == mode
        result = decode_image(image)
        assert result.dtype == np.uint8
        # HSV, LAB and YCbCr with 8 bits have fewer colours than RGB.
        most, mean = {"HSV": (6, 1.5), "LAB": (25, 1), "YCbCr": (3, 1.5)}.get(mode, (0, 0))
        difference = np.abs(result.astype(int) - smooth)
        assert difference.max() <= most
        assert difference.mean() <= mean

    def test_black_cmyk_becomes_black(self):
        result = decode_image(Image.new("CMYK", (2, 2), (0, 0, 0, 255)))
        assert not result.any()

    @pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA"])
    def test_gray_modes_repeat_the_gray(self, mode, smooth):
        gray = Image.fromarray(smooth[..., 0])
        image = gray.convert("LA").convert("La") if mode == "La" else gray.convert(mode)
        assert image.mode == mode
        np.testing.assert_array_equal(decode_image(image), to_rgb(smooth[..., 0]))

    def test_one_bit_is_black_and_white(self):
        bits = np.array([[True, False, True]])
        np.testing.assert_array_equal(decode_image(Image.fromarray(bits))[0, :, 0], [255, 0, 255])

    @pytest.mark.parametrize("mode", ["LA", "PA", "RGBA"])
    def test_alpha_is_blended_with_white(self, mode):
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
        image.putpixel((1, 0), (0, 0, 0, 0))
        if mode == "PA":
            image, alpha = Image.new("PA", (2, 1)), image.getchannel("A")
            image.putpalette([0, 0, 0] * 256)
            image.putalpha(alpha)
        result = decode_image(image.convert(mode))
        np.testing.assert_array_equal(result, [[[0, 0, 0], [255, 255, 255]]])

    @pytest.mark.parametrize("mode", ["La", "RGBa"])
    def test_premultiplied_alpha_is_blended_with_white(self, mode):
        straight = "LA" if mode == "La" else "RGBA"
        image = Image.new("RGBA", (1, 1), (100, 100, 100, 128)).convert(straight)
        expected = decode_image(image).astype(int)
        assert np.abs(decode_image(image.convert(mode)) - expected).max() <= 1
        assert expected.max() == 177

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00", b"\xff\x80"])
    def test_a_transparent_palette_colour_is_blended_with_white(self, transparency):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        image.info["transparency"] = transparency
        first, second = decode_image(image)[0]
        np.testing.assert_array_equal(first, [10, 20, 30])
        half = isinstance(transparency, bytes) and transparency[1] == 128
        np.testing.assert_array_equal(second, [147, 152, 157] if half else [255, 255, 255])

    @pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
    def test_white_is_65535_in_16_bits(self, mode):
        dtype = ">u2" if mode == "I;16B" else "<u2"
        numbers = np.array([[0, 257, 65535, 256]], dtype)
        image = Image.frombytes(mode, (4, 1), numbers.tobytes())
        result = decode_image(image)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result[0, :, 0], [0, 1, 255, 256 / 257], rtol=1e-6)
        assert resize_image(result, (3, 3)).dtype.isnative

    def test_32_bit_integers_are_16_bit_images(self):
        image = Image.fromarray(np.array([[0, 257, 65535]], np.int32))
        assert image.mode == "I"
        np.testing.assert_array_equal(decode_image(image)[0, :, 0], [0, 1, 255])

    def test_dark_32_bit_integers_are_dark(self):
        assert decode_image(Image.new("I", (2, 2), 200)).max() < 1

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_32_bit_integers_above_65535_need_a_range(self, value):
        image = Image.new("I", (2, 2), value)
        with pytest.raises(ImageError, match="expected"):
            decode_image(image)
        np.testing.assert_array_equal(
            decode_image(image, pixel_range=(value - 1, value)), np.full((2, 2, 3), 255)
        )

    @pytest.mark.parametrize(("white", "low"), [(1.0, 127.5), (255.0, 0.5)])
    def test_white_is_1_or_255_in_floats(self, white, low):
        image = Image.fromarray(np.array([[0.5, white]], np.float32))
        np.testing.assert_array_equal(decode_image(image)[0, :, 0], [low, 255])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_floats_that_are_not_finite_raise_an_error(self, value):
        image = Image.fromarray(np.array([[0.5, value]], np.float32))
        with pytest.raises(ImageError, match="expected finite pixel values"):
            decode_image(image)

    @pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
    def test_the_given_range_is_applied(self, mode):
        image = Image.new(mode, (2, 1), (60,) * 3 if mode == "RGB" else 60)
        np.testing.assert_array_equal(
            decode_image(image, pixel_range=(10, 110)), np.full((1, 2, 3), 127.5)
        )

    def test_minmax_stretches_to_0_and_255(self, smooth):
        dark = decode_image(Image.fromarray(smooth // 4), pixel_range="minmax")
        assert (dark.min(), dark.max()) == (0, 255)


@pytest.mark.parametrize("mode", [*MODES, "La", "RGBa", "RGBX", "HSV", "I;16B", "I;16L"])
def test_the_callers_image_is_not_changed(mode):
    image = Image.new(mode, (5, 3))
    image.info["note"] = "mine"
    image.getexif()[EXIF_ORIENTATION] = 6
    before = (image.mode, image.size, dict(image.info), image.tobytes())
    result = decode_image(image)
    result.flags.writeable and result.fill(99)
    assert (image.mode, image.size, dict(image.info), image.tobytes()) == before


class TestFormats:
    def test_the_formats_include_the_usual_ones(self):
        assert {"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "MPO"} <= set(FORMATS)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_files_written_by_pillow_have_the_pixels_of_pillow(self, kind, smooth, tmp_path):
        written = 0
        # SPIDER stores all modes as floats, and floats above 255 need a pixel_range.
        for mode in MODES if kind != "SPIDER" else MODES[:-3]:
            image = in_mode(smooth, mode)
            file = tmp_path / f"{mode.replace(';', '_')}.{kind.lower()}"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image.save(file, kind)
                with Image.open(file) as opened:
                    opened.load()
            except (OSError, ValueError, KeyError):
                # This format has no such mode, or this Pillow cannot read what it wrote (TIFF
                # with YCbCr before Pillow 12).
                continue
            written += 1
            result = decode_image(file)
            assert result.shape[2] == 3
            # Some formats clip deep images to 8 bits.
            assert result.std() > 20 or mode in ("I;16", "I", "F"), f"{mode} lost its picture"
            np.testing.assert_array_equal(result, decode_image(file.read_bytes()))
            with Image.open(file) as opened:
                np.testing.assert_array_equal(result, decode_image(opened))
        assert written, "nothing was tested"

    @pytest.mark.newest
    @pytest.mark.parametrize("kind", FORMATS)
    def test_files_are_resized_as_their_pixels(self, kind, smooth, tmp_path):
        """The pictures stay Pillow images until the resize, after their file was closed."""
        for mode in ("L", "RGB", "P"):
            file = tmp_path / f"{mode}.{kind.lower()}"
            try:
                in_mode(smooth, mode).save(file, kind)
                pixels = decode_image(file, reduce_to=9)
            except (OSError, ValueError, KeyError):
                continue  # this format has no such mode
            for resize in ("crop", "pad"):
                result = check_images([file]).load(0, (9, 7), resize)
                expected = resize_image(pixels, (9, 7), resize)
                np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"MSP", "XBM", "BLP", "ICNS", "SPIDER"}))
    def test_files_keep_the_colours(self, kind, smooth, tmp_path):
        file = tmp_path / "image.bin"
        Image.fromarray(smooth).save(file, kind)
        result = decode_image(file)
        assert result.dtype == np.uint8
        allowed = 12 if kind in LOSSY else 0
        assert np.abs(result.astype(int) - smooth).mean() <= allowed

    def test_a_cmyk_jpeg_is_decoded(self, smooth):
        contents = encoded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=100)
        assert np.abs(decode_image(contents).astype(int) - smooth).mean() < 2

    def test_a_gray_jpeg_is_decoded(self, smooth):
        contents = encoded(Image.fromarray(smooth[..., 0]), "JPEG", quality=100)
        assert np.abs(decode_image(contents).astype(int) - smooth[..., :1]).max() < 6

    @pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "AVIF"])
    def test_the_first_of_many_frames_is_decoded(self, kind, smooth):
        if kind not in Image.SAVE_ALL:
            pytest.skip(f"this Pillow cannot write several frames of {kind}")
        if kind == "MPO" and PILLOW < (11, 3):
            pytest.skip("Pillow before 11.3 writes MPO files with a damaged index")
        first = Image.fromarray(smooth)
        others = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("black", "white")]
        contents = encoded(first, kind, save_all=True, append_images=others)
        with Image.open(io.BytesIO(contents)) as image:
            assert image.n_frames == 3
        assert np.abs(decode_image(contents).astype(int) - smooth).mean() < 12

    @pytest.mark.parametrize("order", ["<u2", ">u2"])
    def test_16_bit_tiff_of_either_byte_order_is_decoded(self, order, tmp_path):
        numbers = (np.arange(64).reshape(8, 8) * 1000).astype(order)
        file = tmp_path / "deep.tif"
        Image.frombytes("I;16B" if order == ">u2" else "I;16", (8, 8), numbers.tobytes()).save(file)
        if order == ">u2":
            assert file.read_bytes()[:2] == b"MM"
        np.testing.assert_allclose(decode_image(file)[..., 0], numbers / 257, rtol=1e-6)

    def test_16_bit_png_and_tiff_are_not_rounded(self):
        numbers = (np.arange(64).reshape(8, 8) * 1001).astype(np.uint16)
        for kind in ("PNG", "TIFF", "PPM"):
            result = decode_image(encoded(Image.fromarray(numbers), kind))
            assert result.dtype == np.float32
            np.testing.assert_allclose(result[..., 0], numbers / 257, rtol=1e-6)

    def test_a_float_tiff_is_decoded(self):
        numbers = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        result = decode_image(encoded(Image.fromarray(numbers), "TIFF"))
        np.testing.assert_allclose(result[..., 0], numbers * 255, rtol=1e-6)

    def test_a_lab_tiff_is_decoded(self):
        image = Image.new("LAB", (4, 4), (255, 128, 128))
        assert decode_image(encoded(image, "TIFF")).min() >= 250

    @pytest.mark.parametrize(
        ("numbers", "key"),
        [
            (np.arange(20, dtype=np.uint8).reshape(4, 5), 7),
            (np.stack([np.arange(20, dtype=np.uint8).reshape(4, 5)] * 3, -1), (7, 7, 7)),
            (np.arange(20, dtype=np.uint16).reshape(4, 5) * 257, 7 * 257),
        ],
        ids=["L", "RGB", "I;16"],
    )
    def test_png_colour_key_is_transparent(self, numbers, key):
        result = decode_image(encoded(Image.fromarray(numbers), "PNG", transparency=key))
        expected = np.repeat(np.arange(20).reshape(4, 5, 1), 3, axis=-1)
        expected[1, 2] = 255
        np.testing.assert_array_equal(result, expected)

    def test_a_16_bit_rgb_png_is_decoded(self, smooth):
        def chunk(kind, data):
            crc = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + crc

        rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in smooth)
        header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        contents = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
        np.testing.assert_array_equal(decode_image(contents), smooth)


class TestSources:
    def test_str_path_bytes_and_file_objects_agree(self, smooth, tmp_path):
        file = tmp_path / "bild ü.png"
        Image.fromarray(smooth).save(file)
        np.testing.assert_array_equal(decode_image(file), smooth)
        np.testing.assert_array_equal(decode_image(str(file)), smooth)
        np.testing.assert_array_equal(decode_image(file.read_bytes()), smooth)
        with file.open("rb") as opened:
            for _ in range(2):
                np.testing.assert_array_equal(decode_image(opened), smooth)
            assert not opened.closed

    def test_the_extension_is_ignored(self, smooth, tmp_path):
        file = tmp_path / "really_a_png.jpg"
        Image.fromarray(smooth).save(file, "PNG")
        np.testing.assert_array_equal(decode_image(file), smooth)

    def test_a_lazily_opened_image_is_decoded(self, smooth, tmp_path):
        Image.fromarray(smooth).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            np.testing.assert_array_equal(decode_image(image), smooth)


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied(self, kind, orientation, smooth):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        image = Image.fromarray(smooth[:, :20])
        contents = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        with Image.open(io.BytesIO(contents)) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
            np.testing.assert_array_equal(decode_image(opened), expected)
        result = decode_image(contents)
        np.testing.assert_array_equal(result, expected)
        assert result.shape == ((20, SIDE, 3) if orientation > 4 else (SIDE, 20, 3))

    def test_orientation_6_turns_the_picture_to_the_right(self, smooth):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6
        contents = encoded(Image.fromarray(smooth), "PNG", exif=exif)
        np.testing.assert_array_equal(decode_image(contents), np.rot90(smooth, -1))

    def test_orientation_is_applied_to_16_bit_images(self):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 3
        numbers = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)
        contents = encoded(Image.fromarray(numbers), "PNG", exif=exif)
        np.testing.assert_allclose(
            decode_image(contents)[..., 0], numbers[::-1, ::-1] / 257, rtol=1e-6
        )

    @pytest.mark.parametrize("nonsense", [0, 9, 77])
    def test_invalid_orientation_is_ignored(self, nonsense, smooth):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = nonsense
        contents = encoded(Image.fromarray(smooth), "PNG", exif=exif)
        np.testing.assert_array_equal(decode_image(contents), smooth)


class TestReducedJPEG:
    @pytest.fixture(scope="class")
    def large(self):
        return textured(1500, 2000)

    @pytest.mark.parametrize("orientation", [1, 6])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("target", [64, 96, 224])
    def test_a_reduced_jpeg_is_at_least_twice_the_target_and_looks_the_same(
        self, large, orientation, mode, target
    ):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        contents = encoded(large.convert(mode), "JPEG", quality=90, exif=exif)
        whole = decode_image(contents)
        reduced = decode_image(contents, reduce_to=target)
        assert whole.shape == ((2000, 1500, 3) if orientation == 6 else (1500, 2000, 3))
        assert 2 * target <= min(reduced.shape[:2]) < 1500
        assert max(whole.shape) / max(reduced.shape) <= 8
        assert (reduced.shape[0] < reduced.shape[1]) == (whole.shape[0] < whole.shape[1])
        size = (target, target)
        difference = resize_image(whole, size).astype(int) - resize_image(reduced, size)
        assert np.abs(difference).mean() < 1

    def test_mpo_is_reduced(self, large):
        contents = encoded(large, "MPO", save_all=True, append_images=[large.resize((64, 64))])
        assert min(decode_image(contents, reduce_to=32).shape[:2]) < 200

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_small_and_other_files_are_not_reduced(self, kind, smooth):
        contents = encoded(Image.fromarray(smooth), kind)
        target = 8 if kind == "PNG" else 17
        assert decode_image(contents, reduce_to=target).shape == smooth.shape


class TestErrors:
    def test_a_text_file_named_png_is_an_error(self, tmp_path):
        file = tmp_path / "notes.png"
        file.write_text("not a picture")
        with pytest.raises(ImageReadError, match=r"expected an image file, got .* no known image"):
            decode_image(file)

    def test_an_empty_file_is_an_error(self, tmp_path):
        (tmp_path / "empty.jpg").touch()
        with pytest.raises(ImageReadError, match="expected an image file"):
            decode_image(tmp_path / "empty.jpg")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
    @pytest.mark.parametrize("kept", [0.9, 0.5])
    def test_a_truncated_file_is_an_error(self, kind, kept, rng):
        noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        contents = encoded(noise, kind)
        with pytest.raises(ImageReadError, match=r"expected a whole image, got|no known image"):
            decode_image(contents[: int(len(contents) * kept)])

    def test_a_decompression_bomb_is_an_error(self, monkeypatch, smooth):
        contents = encoded(Image.fromarray(smooth), "PNG")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE)
        with pytest.raises(ImageReadError, match=r"decompression bomb.*MAX_IMAGE_PIXELS"):
            decode_image(contents)
        with pytest.raises(ImageReadError, match=r"decompression bomb.*MAX_IMAGE_PIXELS"):
            header(Contents(contents))

    def test_a_folder_is_an_error(self, tmp_path):
        with pytest.raises(ImageReadError, match="expected an image file, got a folder"):
            decode_image(tmp_path)

    def test_a_missing_file_is_an_error(self, tmp_path):
        with pytest.raises(MissingImageError, match="expected a file, got a path where"):
            decode_image(tmp_path / "none.png")

    def test_a_closed_image_is_an_error(self, smooth, tmp_path):
        Image.fromarray(smooth).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            pass
        with pytest.raises(ImageReadError, match=r"closed before, call its load\(\) first"):
            decode_image(image)

    def test_headers_are_told_apart(self, smooth):
        contents = encoded(Image.fromarray(smooth), "JPEG")
        assert header(Contents(contents)).size == (SIDE, SIDE)
        assert header(Contents(contents[:-10])).mode == "RGB"
        for damaged in (b"", b"text"):
            with pytest.raises(ImageReadError, match="expected an image file, got"):
                header(Contents(damaged))
