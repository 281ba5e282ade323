"""Decoded formats; no format starts a program; settings that change pixels are in the key."""

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from extraction_helpers import extract
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, TiffImagePlugin

from transferclf.exceptions import ImageReadError
from transferclf.features import FeatureStore
from transferclf.images import check_images, decode_image, formats
from transferclf.images.files import Contents
from transferclf.images.formats import DECODED, REFUSED, decoder_of, is_decoded, open_image
from transferclf.images.geometry import Sampling
from transferclf.images.loading import content_digests, load_all, looks_at

pytestmark = pytest.mark.every_parameter  # each takes milliseconds

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
DOS_EPS = struct.pack("<4sIIIIIIH", b"\xc5\xd0\xd3\xc6", 32, len(EPS), 0, 0, 0, 0, 0xFFFF) + b"\0\0"
WMF = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 100, 100, 72) + b"\0" * 6 + b"\1\0\t\0"
EMF = struct.pack("<II", 1, 108) + struct.pack("<8i", 0, 0, 99, 99, 0, 0, 999, 999) + b" EMF"
STUBS = {
    "EPS": EPS,
    "WMF": WMF + bytes(60),
    "GRIB": b"GRIB\0\0\0\1" + bytes(40),
    "BUFR": b"BUFR" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "MPEG": b"\x00\x00\x01\xb3\x10\x00\x10\x13\xff\xff\xe0\x18",
}


def iptc(contents):
    """Return an IPTC file that contains another file; Pillow opens that file in any format."""

    def field(number, data):
        return b"\x1c" + bytes(number) + struct.pack(">H", len(data)) + data

    parts = [
        field((3, 20), struct.pack(">H", 10)),
        field((3, 30), struct.pack(">H", 10)),
        field((3, 60), b"\x01\x00"),
        field((3, 120), struct.pack(">H", 5)),
    ]
    return b"".join(parts) + field((8, 10), contents)


class Hue:
    """Stand-in for a prefix: the mean colour."""

    digest, size, is_cut, sampling = "hue", (8, 8), False, Sampling()

    def __init__(self):
        self.seen = 0

    def forward(self):
        return self

    def __call__(self, images):
        self.seen += len(images)
        return images.mean(axis=(1, 2))


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put programs that record their start first in PATH, and check that none was started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "djpeg", "convert", "xv"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {folder}/started\nexit 0\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert subprocess.run(["gs", "--version"], check=True).returncode == 0
    (folder / "started").unlink()
    yield folder
    assert not (folder / "started").exists(), (folder / "started").read_text()


class TestPrograms:
    @pytest.mark.parametrize("name", ["photo.jpg", "photo.eps", "photo.png", "photo"])
    @pytest.mark.parametrize("contents", [EPS, DOS_EPS + EPS, iptc(EPS), WMF, EMF], ids=range(5))
    def test_decoding_a_file_starts_no_program(self, programs, name, contents, tmp_path):
        file = tmp_path / name
        file.write_bytes(contents)
        source = check_images([file])
        for use in (
            lambda: content_digests(source),
            lambda: load_all(source, (32, 32), "crop"),
            lambda: decode_image(file),
            lambda: decode_image(contents),
        ):
            with pytest.raises(ImageReadError, match="expected an image file, got"):
                use()

    @pytest.mark.parametrize("contents", [EPS, iptc(EPS)], ids=["EPS", "IPTC"])
    def test_an_opened_image_starts_no_program(self, programs, contents):
        image = Image.open(io.BytesIO(contents))
        with pytest.raises(ImageReadError, match=f"in {image.format} format, which"):
            check_images([image]).load(0)
        with pytest.raises(ImageReadError, match=f"in {image.format} format, which"):
            content_digests(check_images([image]))
        assert image.tile or image.format == "IPTC"

    def test_an_opened_and_changed_image_starts_no_program(self, programs):
        image = Image.open(io.BytesIO(EPS))
        image.info["note"] = "mine"
        with pytest.raises(ImageReadError, match=r"in EPS format.*Ghostscript.*convert it to PNG"):
            decode_image(image)

    def test_a_registered_handler_is_not_called(self, programs, monkeypatch):
        from PIL import WmfImagePlugin

        class Handler:
            def open(self, image):
                image._mode = "RGB"

            def load(self, image):
                subprocess.run(["gs"], check=True)
                return Image.new("RGB", image.size)

        # Pillow 11 keeps the handler in the module, later versions in the class.
        is_of_class = hasattr(WmfImagePlugin.WmfStubImageFile, "_handler")
        place = WmfImagePlugin.WmfStubImageFile if is_of_class else WmfImagePlugin
        monkeypatch.setattr(place, "_handler", Handler())
        with pytest.raises(ImageReadError, match="a WMF drawing"):
            decode_image(STUBS["WMF"])
        with pytest.raises(ImageReadError, match="in WMF format, for which Pillow would call"):
            decode_image(Image.open(io.BytesIO(STUBS["WMF"])))

    def test_images_loaded_by_the_caller_are_accepted(self):
        image = Image.new("RGB", (3, 2), (9, 8, 7))
        image.format = "EPS"
        assert decode_image(image).tolist() == [[[9, 8, 7]] * 3] * 2


@pytest.mark.parametrize("name", REFUSED)
def test_refused_formats_stay_refused_after_registration(name, monkeypatch):
    Image.init()

    def factory(file, filename):
        raise AssertionError("opened")

    monkeypatch.setitem(Image.OPEN, name, (factory, None))
    assert not is_decoded(name)
    with pytest.raises(ImageReadError, match="no known image format"):
        decode_image(b"whatever this is \x01")


def test_every_format_of_pillow_is_either_decoded_or_refused():
    Image.init()
    of_pillow = {
        name for name, (opener, _) in Image.OPEN.items() if opener.__module__.startswith("PIL.")
    }
    assert of_pillow <= DECODED | set(REFUSED)


class PlainImageFile(ImageFile.ImageFile):
    """Format of another library: sixteen bytes, then gray pixels."""

    format = "PLAIN"

    def _open(self):
        head = self.fp.read(16)
        if not head.startswith(b"PLAIN"):
            raise SyntaxError("not PLAIN")
        self._size, self._mode = tuple(head[5:7]), "L"
        self.tile = [("raw", (0, 0, *self.size), 16, ("L", 0, 1))]


def plain(width=3, height=2):
    return b"PLAIN" + bytes([width, height]) + bytes(9) + bytes(range(width * height))


@pytest.fixture
def plugin(monkeypatch):
    """Register the format for the test."""
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    Image.register_open("PLAIN", PlainImageFile, lambda prefix: prefix.startswith(b"PLAIN"))
    formats._decoder.cache_clear()
    yield
    formats._decoder.cache_clear()


class TestPlugins:
    def test_formats_of_other_libraries_are_decoded(self, plugin):
        assert decode_image(plain())[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert is_decoded("PLAIN")

    def test_without_the_plugin_the_format_is_unknown(self):
        with pytest.raises(ImageReadError, match="no known image format"):
            decode_image(plain())

    def test_the_version_of_the_plugin_is_in_the_key(self, plugin, monkeypatch):
        module = sys.modules[__name__]
        monkeypatch.setattr(module, "__version__", "1.2", raising=False)
        first = decoder_of(open_image(io.BytesIO(plain())))
        assert "PlainImageFile 1.2" in first
        formats._decoder.cache_clear()
        monkeypatch.setattr(module, "__version__", "1.3")
        assert decoder_of(open_image(io.BytesIO(plain()))) != first

    def test_code_without_a_version_has_a_key_of_this_process(self, plugin):
        named = decoder_of(open_image(io.BytesIO(plain())))
        assert formats._UNKNOWN in named
        assert named == decoder_of(open_image(io.BytesIO(plain())))

    def test_another_decoder_of_a_known_format_changes_the_key(self, plugin, tmp_path, monkeypatch):
        Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "a.png")
        before = looks_at(check_images([tmp_path / "a.png"]))

        class OtherPNG(Image.OPEN["PNG"][0]):
            pass

        monkeypatch.setitem(Image.OPEN, "PNG", (OtherPNG, Image.OPEN["PNG"][1]))
        after = looks_at(check_images([tmp_path / "a.png"]))
        assert after[0].digest == before[0].digest
        assert after[0].decoder != before[0].decoder

    def test_another_codec_changes_the_key(self, monkeypatch, tmp_path):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
        source = check_images([tmp_path / "a.jpg"])
        before = source.look(0).decoder

        class Mine(ImageFile.PyDecoder):
            pass

        monkeypatch.setitem(Image.DECODERS, "jpeg", Mine)
        assert source.look(0).decoder != before


class TestSettingsOfPillow:
    @pytest.fixture
    def cut(self, tmp_path, rng):
        file = tmp_path / "cut.jpg"
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return check_images([file])

    def test_a_strict_run_does_not_use_features_of_a_lenient_run(self, cut, monkeypatch):
        store = FeatureStore()
        for _ in range(2):
            with pytest.raises(ImageReadError, match="image 0 .*truncated"):
                extract(cut, Hue(), store)
            with monkeypatch.context() as lenient:
                lenient.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
                assert extract(cut, Hue(), store).shape == (1, 3)
        assert store.info().entries == 1

    @pytest.mark.parametrize(
        ("kind", "module", "name", "value"),
        [
            ("JPEG", ImageFile, "LOAD_TRUNCATED_IMAGES", True),
            ("PNG", ImageFile, "LOAD_TRUNCATED_IMAGES", 1),
            ("GIF", GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS),
            ("BMP", BmpImagePlugin, "USE_RAW_ALPHA", True),
            ("TIFF", TiffImagePlugin, "READ_LIBTIFF", True),
        ],
    )
    def test_settings_change_only_the_keys_of_their_formats(
        self, kind, module, name, value, tmp_path, monkeypatch
    ):
        kinds = ["JPEG", "PNG", "GIF", "BMP", "TIFF"]
        files = [tmp_path / f"a.{it.lower()}" for it in kinds]
        for it, file in zip(kinds, files, strict=True):
            Image.new("L", (8, 8), 77).save(file, it)
        source, store, prefix = check_images(files), FeatureStore(), Hue()
        before = looks_at(source)
        extract(source, prefix, store)
        monkeypatch.setattr(module, name, value, raising=False)
        after = looks_at(source)
        assert [look.digest for look in after] == [look.digest for look in before]
        changed = [
            it
            for it, old, new in zip(kinds, before, after, strict=True)
            if old.decoder != new.decoder
        ]
        assert changed == (kinds if module is ImageFile else [kind])
        extract(source, prefix, store)
        assert prefix.seen == 5 + len(changed)

    def test_arrays_and_loaded_images_are_not_decoded(self, monkeypatch):
        X = [np.zeros((8, 8), np.uint8), Image.new("L", (8, 8), 9)]
        source, store, prefix = check_images(X), FeatureStore(), Hue()
        extract(source, prefix, store)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        extract(source, prefix, store)
        assert prefix.seen == 2

    def test_the_version_of_pillow_changes_the_key(self, tmp_path, monkeypatch):
        from transferclf.features import work

        Image.new("L", (8, 8), 77).save(tmp_path / "a.png")
        source, store, prefix = check_images([tmp_path / "a.png"]), FeatureStore(), Hue()
        extract(source, prefix, store)
        monkeypatch.setattr(work, "pillow_version", lambda: "Pillow 99")
        extract(source, prefix, store)
        assert prefix.seen == 2

    def test_the_versions_of_libraries_of_pillow_change_the_key(self):
        from PIL import features

        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG")
        version = features.version("jpg")
        assert version in decoder_of(open_image(file))


class TestClaims:
    """Headers that claim more pixels than the file can hold."""

    def solid_webp(self, width, height):
        """Return a lossless WebP file of one colour: a few bytes at any size."""
        if "WEBP" not in Image.SAVE:
            pytest.skip("this Pillow has no WebP")
        file = io.BytesIO()
        Image.new("RGB", (16, 16), (9, 9, 9)).save(file, "WEBP", lossless=True)
        data = bytearray(file.getvalue())
        start = data.index(b"VP8L") + 9
        bits = struct.unpack("<I", data[start : start + 4])[0] & ~0xFFFFFFF
        data[start : start + 4] = struct.pack("<I", bits | (width - 1) | (height - 1) << 14)
        return bytes(data)

    def test_a_few_bytes_that_claim_a_large_picture_are_refused(self):
        Image.init()
        contents = self.solid_webp(9000, 9000)
        assert len(contents) < 100
        with pytest.raises(ImageReadError, match=r"\d\d bytes that claim to be 9000 x 9000"):
            decode_image(contents, reduce_to=32)

    def test_small_pictures_of_one_colour_are_accepted(self):
        assert decode_image(self.solid_webp(1000, 600)).shape == (600, 1000, 3)

    def test_a_blank_page_in_fax_compression_is_accepted(self):
        file = io.BytesIO()
        Image.new("1", (9000, 9000), 1).save(file, "TIFF", compression="group4")
        assert len(file.getvalue()) < 9000
        assert decode_image(file.getvalue(), reduce_to=64).min() == 255

    @pytest.mark.parametrize(("side", "is_read"), [(10, True), (3000, False)])
    def test_plain_ppm_is_read_up_to_a_limit(self, side, is_read):
        contents = f"P3 {side} {side} 255\n".encode() + b"7 " * (3 * side * side)
        if is_read:
            assert (decode_image(contents) == 7).all()
        else:
            with pytest.raises(ImageReadError, match=r"plain \(text\) PPM.*3000.*convert it"):
                decode_image(contents)

    def test_the_limit_of_pillow_applies(self, monkeypatch):
        file = io.BytesIO()
        Image.new("L", (100, 100)).save(file, "PNG")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
        with pytest.raises(ImageReadError, match=r"10000 pixels.*8000 pixels.*MAX_IMAGE_PIXELS"):
            decode_image(file.getvalue())
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert decode_image(file.getvalue()).shape == (100, 100, 3)


def test_the_first_image_of_a_process_may_be_of_any_format(tmp_path):
    """Pillow imports most plugins at their first use."""
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a.tif")
    code = (
        "import sys; from transferclf.images import decode_image; "
        "print(decode_image(sys.argv[1])[0, 0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[1, 2, 3]", done.stderr


def test_a_header_is_read_without_decoding():
    file = io.BytesIO()
    Image.new("I;16", (7, 5), 900).save(file, "TIFF")
    with open_image(Contents(file.getvalue()).file(), 10**6) as image:
        assert image.tile
        header = formats.header_of(image)
    assert (header.size, header.mode) == ((5, 7), "I;16")
    assert header.decoder.startswith("TIFF ")
