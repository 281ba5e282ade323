"""Images in folders below class folders: read with groups, or counted in a warning."""

import os
import sys
import tempfile
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from dataset_helpers import PIXEL, make
from hypothesis import given, settings
from hypothesis import strategies as st

from transferclf import load_image_folder
from transferclf.datasets import trees
from transferclf.exceptions import ImageError, InvalidParameterError, TransferclfWarning

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@pytest.fixture
def root(tmp_path):
    return make(
        tmp_path,
        *("cat/top.png", "cat/s2/1.png", "cat/s10/1.png", "cat/s10/2.png", "cat/s2/raw/cr2/1.png"),
        *("dog/s2/1.png", "dog/top.png"),
    )


def told(caught):
    (warning,) = caught
    assert warning.filename == __file__
    return str(warning.message)


class TestRecursive:
    def test_sessions_are_groups(self, root):
        bunch = load_image_folder(root, recursive=True)
        groups = {
            "cat/top.png": ("cat", "cat/top.png"),
            "cat/s2/1.png": ("cat", "s2"),
            "cat/s2/raw/cr2/1.png": ("cat", "s2"),
            "cat/s10/1.png": ("cat", "s10"),
            "cat/s10/2.png": ("cat", "s10"),
            "dog/top.png": ("dog", "dog/top.png"),
            "dog/s2/1.png": ("dog", "s2"),
        }
        assert bunch.filenames.tolist() == list(groups)
        found = list(zip(bunch.target.tolist(), bunch.groups.tolist(), strict=True))
        assert found == list(groups.values())
        assert bunch.groups.dtype.kind == "U"
        assert bunch.data.tolist() == [str(root / name) for name in groups]
        assert bunch["DESCR"] == f"7 images of 2 classes in {root}"

    def test_groups_of_splits(self, root, tmp_path):
        other = tmp_path / "other"
        for split in ("train", "test"):
            make(other, f"{split}/cat/s1/1.png", f"{split}/cat/2.png")
        bunch = load_image_folder(other, split=["train", "test"], recursive=True)
        assert bunch.groups.tolist() == ["train/cat/2.png", "s1", "test/cat/2.png", "s1"]
        assert bunch.target.tolist() == ["cat"] * 4

    def test_classes_with_nested_images_only(self, tmp_path):
        make(tmp_path, "train/cat/s1/1.png", "test/cat/1.png", "test/dog/s1/1.png")
        with pytest.warns(TransferclfWarning, match="'dog' in test, not in train"):
            load_image_folder(tmp_path, split="train", recursive=True)

    def test_one_session_in_two_unicode_forms_is_one_group(self, tmp_path):
        forms = [unicodedata.normalize(form, "août") for form in ("NFC", "NFD")]
        make(tmp_path, f"cat/{forms[0]}/1.png", f"dog/{forms[1]}/1.png", f"dog/{forms[1]}.png")
        bunch = load_image_folder(tmp_path, recursive=True)
        assert bunch.groups.tolist() == [forms[0], f"dog/{forms[0]}.png", forms[0]]

    def test_images_without_folders_are_their_own_groups(self, tmp_path):
        make(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
        bunch = load_image_folder(tmp_path, recursive=True)
        assert bunch.groups.tolist() == bunch.filenames.tolist()

    def test_hidden_folders_are_ignored_at_any_depth(self, root):
        make(root, "cat/s2/.thumbs/1.png", "cat/s2/__MACOSX/1.png", "dog/@eaDir/1.png")
        assert len(load_image_folder(root, recursive=True).data) == 7

    def test_skipped_files_are_reported_with_their_whole_path(self, root):
        make(root, "cat/s2/raw/notes.txt")
        with pytest.warns(TransferclfWarning) as caught:
            load_image_folder(root, recursive=True)
        assert "cat/s2/raw/notes.txt has no known image extension" in told(caught)

    def test_a_class_of_empty_folders(self, root):
        (root / "emu" / "s1").mkdir(parents=True)
        for recursive in (False, True):
            with pytest.warns(TransferclfWarning) as caught:
                bunch = load_image_folder(root, recursive=recursive, classes=["dog", "emu"])
            assert bunch.target_names == ["dog", "emu"]
            assert any("emu holds no images" in str(warning.message) for warning in caught)

    @needs_links
    @pytest.mark.parametrize("to", [".", "..", "../..", "cat", "cat/s2", "dog"])
    def test_links_to_parents_are_not_followed_twice(self, root, to):
        """Check that no image is read twice for a class, or for another class through the root."""
        (root / "cat" / "s2" / "loop").symlink_to(root / "cat" / "s2" / to)
        (root / "cat" / "zz").symlink_to(root / to if to in ("cat", "cat/s2") else root)
        with pytest.warns(TransferclfWarning):
            bunch = load_image_folder(root, recursive=True)
        assert len(bunch.data) == 7
        with pytest.warns(TransferclfWarning, match=r"^5 images in folders"):
            load_image_folder(root)

    @needs_links
    def test_folders_that_link_to_each_other(self, tmp_path):
        names = [f"s{n}" for n in range(8)]
        for name in names:
            make(tmp_path, f"cat/{name}/1.png")
        for name in names:
            for other in names:
                (tmp_path / "cat" / name / f"to-{other}").symlink_to(tmp_path / "cat" / other)
        (tmp_path / "cat" / "endless").symlink_to("endless")
        with pytest.warns(TransferclfWarning, match=r"^65 things"):
            bunch = load_image_folder(tmp_path, recursive=True)
        assert len(bunch.data) == 8

    @needs_links
    def test_links_to_other_places_are_followed(self, root, tmp_path):
        make(tmp_path / "store", "s7/1.png")
        (root / "dog" / "s7").symlink_to(tmp_path / "store" / "s7")
        bunch = load_image_folder(root, recursive=True, classes=["dog"])
        assert bunch.groups.tolist() == ["dog/top.png", "s2", "s7"]

    @pytest.mark.skipif(sys.platform != "linux", reason="paths are shorter there")
    def test_very_deep_folders_are_read(self, tmp_path, monkeypatch):
        make(tmp_path, "cat/1.png")
        monkeypatch.chdir(tmp_path / "cat")
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(tmp_path)
        assert load_image_folder(".", recursive=True).groups.tolist() == ["cat/1.png"]
        _remove_deep(tmp_path / "cat")

    @pytest.mark.parametrize("recursive", ["yes", 2, None, [True], 0.0])
    def test_recursive_must_be_true_or_false(self, root, recursive):
        with pytest.raises(InvalidParameterError, match="recursive must be True or False"):
            load_image_folder(root, recursive=recursive)

    def test_classes_may_have_the_names_of_splits(self, tmp_path):
        make(tmp_path, "train/s1/1.png", "bus/s1/1.png")
        with pytest.raises(ValueError, match=r"holds the splits .*If they are classes"):
            load_image_folder(tmp_path, recursive=True)
        bunch = load_image_folder(tmp_path, recursive=True, classes=["train", "bus"])
        assert bunch.target.tolist() == ["bus", "train"]


def _remove_deep(folder):
    """Remove folders of over a thousand levels, which pytest cannot."""
    os.chdir(folder)
    depth = 0
    while os.path.isdir("d"):
        os.chdir("d")
        depth += 1
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("d")


class TestSkippedImages:
    def test_skipped_images_are_counted(self, root):
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load_image_folder(root)
        assert bunch.filenames.tolist() == ["cat/top.png", "dog/top.png"]
        assert told(caught) == (
            f"5 images in folders below the class folders of {str(root)!r} were left out "
            "(cat/s2; cat/s10; dog/s2); recursive=True reads them too"
        )
        assert "groups" not in bunch

    def test_one_skipped_image_is_counted(self, tmp_path):
        make(tmp_path, "cat/1.png", "cat/s1/1.png", "cat/s1/notes.txt", "dog/1.png", "dog/s1/b.txt")
        with pytest.warns(TransferclfWarning, match=r"^1 image in folders .*\(cat/s1\)"):
            load_image_folder(tmp_path)

    def test_folders_without_images_raise_no_warning(self, tmp_path):
        make(tmp_path, "cat/1.png", "cat/labels/1.txt", "cat/.cache/1.png")
        assert len(load_image_folder(tmp_path).data) == 1

    def test_the_error_counts_images_if_all_are_skipped(self, tmp_path):
        make(tmp_path, "cat/s1/1.png", "dog/s1/1.png")
        with pytest.raises(
            ImageError, match=r"No images .*; 2 images in folders below .*recursive"
        ):
            load_image_folder(tmp_path)

    def test_huge_trees_are_not_counted_to_the_end(self, root, monkeypatch):
        monkeypatch.setattr(trees, "MOST_COUNTED", 3)
        with pytest.warns(TransferclfWarning, match=r"^at least 1 image in folders"):
            load_image_folder(root)

    def test_folders_that_may_not_be_read_are_not_counted(self, root, monkeypatch):
        listed = os.scandir

        def denied(folder):
            if str(folder).endswith("s10"):
                raise PermissionError(13, "Permission denied", str(folder))
            return listed(folder)

        monkeypatch.setattr(os, "scandir", denied)
        with pytest.warns(TransferclfWarning, match=r"^at least 2 images in folders"):
            assert len(load_image_folder(root).data) == 2
        with pytest.raises(PermissionError, match="s10"):
            load_image_folder(root, recursive=True)


PARTS = st.sampled_from(["cat", "dog", "s1", "s2", "s10", ".git", "__MACOSX"])
FILES = st.sampled_from(["1.png", "2.png", "notes.txt", ".hidden.png"])
PATHS = st.builds(
    lambda folders, file: "/".join([*folders, file]), st.lists(PARTS, max_size=4), FILES
)


def expected(paths):
    """Return the files to read, with class and group, by a rule of one line."""
    found = {}
    for path in paths:
        *folders, file = PurePosixPath(path).parts
        is_seen = not any(part.startswith((".", "__")) for part in [*folders, file])
        if is_seen and folders and file.endswith(".png"):
            found[path] = (folders[0], folders[1] if len(folders) > 1 else path)
    return found


@pytest.mark.filterwarnings("ignore::transferclf.exceptions.TransferclfWarning")
@settings(max_examples=60, deadline=None)
@given(st.sets(PATHS, max_size=12))
def test_any_tree(paths):
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            PIXEL.save(file, "PNG")
        every = expected(paths)
        for recursive in (True, False):
            wanted = {path: pair for path, pair in every.items() if recursive or pair[1] == path}
            if not wanted:
                with pytest.raises(ImageError, match="No images"):
                    load_image_folder(folder, recursive=recursive)
                continue
            bunch = load_image_folder(folder, recursive=recursive)
            groups = bunch.groups if recursive else bunch.filenames
            pairs = zip(bunch.target.tolist(), groups.tolist(), strict=True)
            assert dict(zip(bunch.filenames.tolist(), pairs, strict=True)) == wanted
            assert bunch.target_names == np.unique(bunch.target).tolist()
            assert len(bunch.data) == len(wanted)
