"""Errors for files that are no images, for numbers on another scale, and in workers."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from PIL import Image

from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images import check_images, decode_image
from transferclf.images.containers import kind_of
from transferclf.images.loading import content_digests

KINDS = {
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "HEIC photograph; install pillow-heif",
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix": "HEIC photograph; install pillow-heif",
    b"\0\0\0\x18ftypisom\0\0\0\0mp42": "a video",
    b"<!DOCTYPE html><html><title>404</title>": "an HTML page",
    b"\n <html lang='en'><body>": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a": "Git LFS; fetch the file",
    b"/annex/objects/MD5E-s1--0.jpg": "git-annex; fetch",
    b'{"error": "not found"}': "a JSON file",
    b"%PDF-1.4": "a PDF document",
    b"PK\x03\x04abc": "a ZIP archive",
    b"\xff\xd8\xff\xe0": "beginning of a JPEG file, cut off",
    b"just some words": "looks like text",
}


@pytest.mark.parametrize("content", KINDS, ids=KINDS.values())
def test_the_error_names_the_container(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content + bytes(600 if content[:1] == b"\0" else 0))
    with pytest.raises(ImageReadError) as raised:
        content_digests(check_images([path]))
    assert KINDS[content] in str(raised.value)
    assert "worker" not in str(raised.value)


def test_the_error_names_an_empty_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageReadError, match="got an empty file"):
        check_images([tmp_path / "a.jpg"])
    assert kind_of(b"") == "an empty file"


def _error_of(content):
    try:
        decode_image(content)
    except ImageError as error:
        return str(error)
    return "no error"


def test_the_error_of_a_worker_mentions_plugins_of_the_parent(tmp_path):
    whole = tmp_path / "a.png"
    Image.effect_noise((64, 64), 80).save(whole)
    cut = whole.read_bytes()[:2000]
    texts = joblib.Parallel(2)(joblib.delayed(_error_of)(it) for it in [next(iter(KINDS)), cut])
    for text in texts:
        assert "This is a worker process: plugins and settings of Pillow" in text
        assert 'joblib.parallel_config("threading")' in text
    assert "worker" not in _error_of(cut)


@pytest.mark.parametrize("ending", [".tif", ".im"])
def test_the_error_for_negative_floats_in_files_mentions_pixel_range(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save(path)
    with pytest.raises(ImageError, match=r"got -1; say pixel_range=\(low, high\).*preprocess_inp"):
        check_images([path]).load(0)
    pixels = check_images([path], pixel_range=(-1, 1)).load(0)
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("high", [1.0, 255.0])
@pytest.mark.parametrize("kind", ["array", "list", "file"])
def test_small_overshoot_is_clipped_and_larger_is_an_error(tmp_path, high, kind):
    def loaded(low_share, high_share):
        values = np.linspace(low_share, high_share, 64).reshape(1, 8, 8) * high
        if kind == "array":
            return check_images(values).load(0)
        if kind == "list":
            return check_images(list(values)).load(0)
        Image.fromarray(values[0].astype(np.float32)).save(tmp_path / "a.tif")
        return check_images([tmp_path / "a.tif"]).load(0)

    pixels = loaded(-0.001, 1.001)
    assert (pixels.min(), pixels.max()) == (0, 255)
    with pytest.raises(ImageError, match=r"at least 0, got -"):
        loaded(-0.1, 1.001)


def test_lists_of_opened_images_are_not_changed(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (300, 300), (number, 9, 9)).save(path)
    images = [Image.open(path) for path in paths]
    source = check_images(images)
    content_digests(source)
    assert [source.load(n, (4, 4))[0, 0, 0] for n in range(6)] == list(range(6))
    assert all(image.tile for image in images)
    for image in images:
        image.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize(("mode", "ending"), [("RGBA", "png"), ("CMYK", "tif"), ("I;16", "tif")])
def test_every_mode_takes_at_most_12_bytes_a_pixel(tmp_path, mode, ending):
    side = 4000
    path = tmp_path / f"a.{ending}"
    colour = 1000 if mode == "I;16" else (10, 20, 30, 200)
    Image.new(mode, (side, side), colour).save(path)
    program = (
        "import resource, sys\n"
        "from transferclf.images import check_images\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "check_images([sys.argv[2]]).load(0, (96, 96))\n"
        "before = peak()\n"
        "check_images([sys.argv[1]]).load(0, (96, 96))\n"
        "print(peak() - before)"
    )
    small = tmp_path / f"small.{ending}"
    Image.new(mode, (64, 64), colour).save(small)
    command = [sys.executable, "-c", program, str(path), str(small)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) <= 12 * side * side + path.stat().st_size + 2**22
