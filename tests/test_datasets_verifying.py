"""load_image_folder(verify=True): images that cannot be decoded are named, or left out."""

import numpy as np
import pytest
from PIL import Image

from transferclf import load_image_folder
from transferclf.exceptions import ImageError, InvalidParameterError, TransferclfWarning


@pytest.fixture
def folder(tmp_path, rng):
    """Return a folder of two classes with four images each."""
    for label in ("cat", "dog"):
        (tmp_path / label / "monday").mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / "monday" / f"{number}.png")
    return tmp_path


def spoil(folder, *names):
    """Cut files; their headers stay whole."""
    for name in names:
        file = folder / name
        file.write_bytes(file.read_bytes()[:300])


def load(folder, **options):
    return load_image_folder(folder, recursive=True, verify=True, **options)


def test_a_whole_folder_is_read_as_without_verification(folder):
    verified = load(folder)
    plain = load_image_folder(folder, recursive=True)
    assert verified.data.tolist() == plain.data.tolist()
    assert verified.skipped_filenames.tolist() == []
    assert "skipped_filenames" not in plain


def test_one_error_names_all_damaged_images(folder):
    spoil(folder, "cat/monday/2.png", "dog/monday/3.png")
    (folder / "dog/monday/0.png").write_text("no image")
    assert len(load_image_folder(folder, recursive=True).data) == 8
    with pytest.raises(ImageError, match="3 of 8 images cannot be used") as caught:
        load(folder)
    assert caught.value.indices == [2, 4, 7]
    for name in ("cat/monday/2.png", "dog/monday/0.png", "dog/monday/3.png"):
        assert str(folder / name) in str(caught.value)


def test_damaged_images_are_left_out_with_one_warning(folder):
    whole = load(folder)
    spoil(folder, "cat/monday/2.png", "dog/monday/3.png")
    with pytest.warns(TransferclfWarning) as caught:
        images = load(folder, on_error="skip")
    (text,) = [str(each.message) for each in caught]
    assert "2 of 8 images cannot be used, and are left out:" in text
    assert "cat/monday/2.png" in text
    for name in ("data", "target", "filenames", "groups"):
        np.testing.assert_array_equal(images[name], np.delete(whole[name], [2, 7]))
    assert images.skipped_filenames.tolist() == ["cat/monday/2.png", "dog/monday/3.png"]
    assert images.target_names == whole.target_names
    assert images.DESCR.startswith("6 images of 2 classes")


def test_a_class_that_loses_all_its_images_is_an_error(folder):
    spoil(folder, *[f"dog/monday/{number}.png" for number in range(4)])
    with pytest.raises(ImageError, match=r"no image is left of these classes: \['dog'\]"):
        load(folder, on_error="skip")


@pytest.mark.parametrize(
    "options",
    [{"on_error": "skip"}, {"verify": True, "on_error": "ignore"}, {"verify": "yes"}],
)
def test_parameters_are_checked(folder, options):
    with pytest.raises(InvalidParameterError, match="verify|on_error"):
        load_image_folder(folder, recursive=True, **options)
