"""Class folders and tables become paths and labels; all skipped files are reported."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from counting import counted_calls
from dataset_helpers import make
from PIL import Image, JpegImagePlugin

from transferclf import load_image_folder, load_image_table
from transferclf.datasets import image_extensions
from transferclf.exceptions import (
    ImageError,
    InvalidParameterError,
    MissingImageError,
    TransferclfWarning,
)
from transferclf.images import check_images

SPLITS = ("train", "valid", "test")


class TestFolder:
    def test_class_folders_become_paths_and_labels(self, tmp_path):
        make(tmp_path, "dog/a.png", "cat/b.png", "cat/a.png")
        bunch = load_image_folder(tmp_path)
        assert bunch.target_names == ["cat", "dog"]
        assert bunch.target.tolist() == ["cat", "cat", "dog"]
        assert bunch.target.dtype.kind == "U"
        assert "groups" not in bunch
        assert bunch.filenames.tolist() == ["cat/a.png", "cat/b.png", "dog/a.png"]
        assert bunch.data.tolist() == [str(tmp_path / name) for name in bunch.filenames]
        assert bunch.data.dtype == bunch.filenames.dtype == object
        assert bunch["DESCR"] == f"3 images of 2 classes in {tmp_path}"
        assert len(check_images(bunch.data)) == 3

    def test_the_path_may_be_a_relative_string(self, tmp_path, monkeypatch):
        make(tmp_path, "photos/cat/a.png")
        monkeypatch.chdir(tmp_path)
        bunch = load_image_folder("photos")
        assert bunch.data.tolist() == [os.path.join("photos", "cat", "a.png")]

    def test_files_are_in_natural_and_classes_in_sorted_order(self, tmp_path):
        make(tmp_path, *(f"c{c}/img{i}.png" for c in (10, 9, 1) for i in (10, 2, 1)))
        bunch = load_image_folder(tmp_path)
        assert bunch.filenames[:3].tolist() == ["c1/img1.png", "c1/img2.png", "c1/img10.png"]
        assert list(dict.fromkeys(bunch.target.tolist())) == ["c1", "c9", "c10"]
        assert bunch.target_names == ["c1", "c10", "c9"] == np.unique(bunch.target).tolist()

    def test_order_does_not_depend_on_the_file_system(self, tmp_path, monkeypatch):
        names = ["img1", "img01", "img001"]
        make(tmp_path, *(f"{folder}/{name}.png" for folder in names for name in names))
        expected = load_image_folder(tmp_path)
        listed, asked = os.scandir, []
        for reverse in (False, True):

            @contextmanager
            def in_order(folder, reverse=reverse):
                asked.append(folder)
                with listed(folder) as entries:
                    yield iter(sorted(entries, key=lambda entry: entry.name, reverse=reverse))

            monkeypatch.setattr(os, "scandir", in_order)
            bunch = load_image_folder(tmp_path)
            assert asked
            assert bunch.target_names == expected.target_names
            assert bunch.filenames.tolist() == expected.filenames.tolist()

    def test_names_may_have_unicode_spaces_and_capitals(self, tmp_path):
        make(tmp_path, "Äpfel grün/写真 1.png", "naïve class/b.PNG", "naïve class/c.JPeG")
        bunch = load_image_folder(tmp_path)
        assert bunch.target_names == ["naïve class", "Äpfel grün"]
        assert bunch.filenames[0] == "Äpfel grün/写真 1.png"
        assert len(bunch.data) == 3

    def test_hidden_files_and_folders_are_ignored(self, tmp_path):
        make(tmp_path, "cat/a.png", "cat/.DS_Store", "cat/._a.png", ".git/x.png", ".hidden.png")
        make(tmp_path, "cat/.thumbs/a.png")
        assert load_image_folder(tmp_path).filenames.tolist() == ["cat/a.png"]

    def test_other_files_beside_the_classes_are_ignored(self, tmp_path):
        make(tmp_path, "cat/a.png", "README.md", "labels.csv")
        assert load_image_folder(tmp_path).filenames.tolist() == ["cat/a.png"]

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    def test_links_are_followed(self, tmp_path):
        store = make(tmp_path / "store", "x.png")
        root = make(tmp_path / "root", "cat/a.png")
        (root / "dog").symlink_to(store, target_is_directory=True)
        (root / "cat" / "b.png").symlink_to(store / "x.png")
        bunch = load_image_folder(root)
        assert bunch.filenames.tolist() == ["cat/a.png", "cat/b.png", "dog/x.png"]

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    def test_broken_links_are_reported(self, tmp_path):
        make(tmp_path, "cat/a.png")
        (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "none.png")
        with pytest.warns(TransferclfWarning, match=r"cat/gone\.png is a broken link"):
            bunch = load_image_folder(tmp_path)
        assert bunch.filenames.tolist() == ["cat/a.png"]

    def test_all_skipped_files_are_reported_in_one_warning(self, tmp_path):
        make(tmp_path, "cat/a.png", "cat/notes.txt", "stray.png")
        (tmp_path / "empty" / "nested").mkdir(parents=True)
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load_image_folder(tmp_path)
        assert bunch.target_names == ["cat"]
        assert bunch.filenames.tolist() == ["cat/a.png"]
        (warning,) = caught
        message = str(warning.message)
        assert message.startswith(f"3 things in {str(tmp_path)!r} were left out: ")
        for part in (
            "stray.png is in no class folder",
            "cat/notes.txt has no known image extension",
            "empty holds no images",
        ):
            assert part in message
        assert warning.filename == __file__, "does not point at the caller"

    def test_long_reports_are_shortened(self, tmp_path):
        make(tmp_path, "cat/a.png", *(f"cat/{i}.txt" for i in range(30)))
        with pytest.warns(TransferclfWarning, match=r"^30 things .*cat/4\.txt.* and 25 more$"):
            load_image_folder(tmp_path)

    def test_listing_a_large_class_makes_few_calls(self, tmp_path):
        """Allow two hundred calls of small functions for each file, which take under a second."""
        make(tmp_path, "cat/a.png")
        for index in range(3000):
            (tmp_path / "cat" / f"{index}.jpg").touch()
        with counted_calls() as calls:
            bunch = load_image_folder(tmp_path)
        assert sum(calls.values()) < 3000 * 500
        assert sum(calls[name] for name in ("open", "stat", "lstat", "scandir", "listdir")) < 30
        names = [*(f"cat/{index}.jpg" for index in range(3000)), "cat/a.png"]
        assert [Path(name).as_posix() for name in bunch.filenames] == names
        assert bunch.target.tolist() == ["cat"] * 3001

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="expected a folder of class folders, got"):
            load_image_folder(tmp_path / "none")

    def test_a_file_is_refused(self, tmp_path):
        with pytest.raises(NotADirectoryError, match=r"expected a folder .*a\.png"):
            load_image_folder(make(tmp_path, "a.png") / "a.png")

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(ImageError, match=r"No images in .*expected CLASS/IMAGE"):
            load_image_folder(tmp_path)

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            (["a.png"], "a.png is in no class folder"),
            (["cat/notes.txt"], "cat/notes.txt has no known image extension; cat holds no images"),
            (["cat/nested/a.png"], "1 image in folders below the class folders"),
        ],
    )
    def test_a_folder_without_images_is_refused(self, tmp_path, names, reason):
        with pytest.raises(ImageError, match=r"No images in .*SPLIT/CLASS/IMAGE with split=") as e:
            load_image_folder(make(tmp_path, *names))
        assert reason in str(e.value)

    @pytest.mark.parametrize(
        "path", [None, 3, 1.5, b"photos", ["photos"], {"photos"}, object(), Image, np.zeros(2)]
    )
    def test_values_that_are_no_path_are_refused(self, path):
        with pytest.raises(InvalidParameterError, match="path must be a str or a Path. Got"):
            load_image_folder(path)

    @pytest.mark.parametrize(
        "path", ["", "\0", "x" * 5000, "~nobody-of-this-name/x", "a\nb", "\ud800"]
    )
    def test_invalid_paths_are_missing_folders(self, path):
        with pytest.raises(FileNotFoundError, match="expected a folder of class folders"):
            load_image_folder(path)

    def test_a_tilde_is_the_home_folder(self, tmp_path, monkeypatch):
        make(tmp_path, "photos/cat/a.png")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        expected = [str(tmp_path / "photos" / "cat" / "a.png")]
        assert load_image_folder("~/photos").data.tolist() == expected
        monkeypatch.chdir(make(tmp_path / "here", "~/photos/dog/a.png"))
        assert load_image_folder("~/photos").target.tolist() == ["dog"]


class TestSplits:
    @pytest.fixture
    def root(self, tmp_path):
        names = ("cat/1.png", "dog/2.png", "emu/3.png")
        return make(tmp_path, *(f"{split}/{name}" for split in SPLITS for name in names))

    def test_one_split_is_read(self, root):
        bunch = load_image_folder(root, split="train")
        assert bunch.target.tolist() == ["cat", "dog", "emu"]
        assert bunch.filenames.tolist() == ["train/cat/1.png", "train/dog/2.png", "train/emu/3.png"]

    @pytest.mark.parametrize("kind", [list, tuple, np.array])
    def test_several_splits_are_read_in_the_given_order(self, root, kind):
        bunch = load_image_folder(root, split=kind(["valid", "train"]))
        assert bunch.target.tolist() == ["cat", "dog", "emu"] * 2
        assert bunch.filenames[0] == "valid/cat/1.png"

    def test_a_folder_of_splits_needs_split(self, root):
        with pytest.raises(ValueError, match=r"holds the splits \['test', 'train', 'valid'\]: say"):
            load_image_folder(root)

    @pytest.mark.parametrize("name", ["Train", "VAL", "validation", "Testing"])
    def test_other_spellings_of_splits_are_recognised(self, tmp_path, name):
        make(tmp_path, f"{name}/cat/a.png")
        with pytest.raises(ValueError, match="holds the splits"):
            load_image_folder(tmp_path)
        assert load_image_folder(tmp_path, split=name).target.tolist() == ["cat"]

    def test_splits_may_have_other_names(self, root):
        make(root, "test_simple/dog/7.png", "notes/figures/1.png")
        with pytest.warns(TransferclfWarning, match=r"'cat', 'emu' in test and train and valid"):
            bunch = load_image_folder(root, split="test_simple")
        assert bunch.target.tolist() == bunch.target_names == ["dog"]

    @pytest.mark.parametrize(
        "split", ["tets", ["train", "tets"], [], ["train", "train"], "", [3], 3, [None], {}]
    )
    def test_unknown_splits_are_refused(self, root, split):
        with pytest.raises(ValueError, match=r"split must be among \['test', 'train', 'valid'\]"):
            load_image_folder(root, split=split)

    def test_errors_propose_near_matches_of_splits(self, root):
        with pytest.raises(ValueError, match=r"Got 'Test' instead. Did you mean 'test' for 'Test'"):
            load_image_folder(root, split="Test")

    def test_split_is_refused_for_plain_class_folders(self, tmp_path):
        make(tmp_path, "cat/a.png")
        with pytest.raises(ValueError, match=r"has no splits.*Leave split out"):
            load_image_folder(tmp_path, split="train")

    def test_a_class_called_train_is_no_split(self, tmp_path):
        make(tmp_path, "train/a.png", "bus/b.png")
        assert load_image_folder(tmp_path).target_names == ["bus", "train"]

    def test_files_beside_the_splits_are_reported(self, root):
        make(root, "train/stray1.png", "stray2.png")
        with pytest.warns(TransferclfWarning) as caught:
            load_image_folder(root, split="train")
        (warning,) = caught
        assert "train/stray1.png is in no class folder" in str(warning.message)
        assert "stray2.png is in no class folder" in str(warning.message)

    @pytest.mark.parametrize(
        "name", [".cache", "__MACOSX", "__macosx", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN"]
    )
    def test_folders_of_the_system_are_no_splits_and_no_classes(self, root, name):
        make(root, f"{name}/train/cat/a.png", f"{name}/cat/a.png", f"train/{name}/a.png")
        make(root, f"train/cat/{name}/b.png", "train/cat/Thumbs.db", "train/cat/desktop.ini")
        assert len(load_image_folder(root, split="train").data) == 3
        with pytest.raises(ValueError, match=r"the splits \['test', 'train', 'valid'\]"):
            load_image_folder(root)
        with pytest.raises(ValueError, match=r"among \['test', 'train', 'valid'\]"):
            load_image_folder(root, split=name)


def test_formats_registered_later_are_recognised(tmp_path, monkeypatch):
    for registry in ("OPEN", "EXTENSION", "MIME"):
        monkeypatch.setattr(Image, registry, dict(getattr(Image, registry)))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    make(tmp_path, "cat/a.png", "cat/b.sketch")
    with pytest.warns(TransferclfWarning, match=r"cat/b\.sketch has no known image extension"):
        assert len(load_image_folder(tmp_path).data) == 1

    class Sketch(JpegImagePlugin.JpegImageFile):
        """Image format of another library; of Pillow's own formats only listed ones are decoded."""

    Image.register_open("SKETCH", Sketch)
    Image.register_extension("SKETCH", ".sketch")
    assert ".sketch" in image_extensions()
    assert len(load_image_folder(tmp_path).data) == 2
    table = tmp_path / "labels.csv"
    table.write_text("file,label\ncat/b,dog\n")
    with pytest.warns(TransferclfWarning, match=r"'cat/b' is 'cat/b\.sketch'"):
        load_image_table(table, "file", "label")


def test_extensions_are_decoded_by_pillow():
    extensions = image_extensions()
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"} <= extensions
    assert {".mpo", ".jp2", ".ppm"} <= extensions
    assert not {".pdf", ".eps", ".txt", ".mpg", ".h5", ".csv", ""} & extensions


class TestTable:
    @pytest.fixture
    def root(self, tmp_path):
        return make(tmp_path, "a.png", "b.png", "sub/c.png")

    def load(self, folder, text, name="labels.csv", **options):
        table = folder / name
        table.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_image_table(table, image_column="file", label_column="label", **options)

    def test_a_table_gives_paths_and_labels(self, root):
        bunch = self.load(root, "file,label\nb.png,dog\nsub/c.png,cat\na.png,dog\n")
        assert bunch.target_names == ["cat", "dog"]
        assert bunch.target.tolist() == ["dog", "cat", "dog"]
        assert bunch.filenames.tolist() == ["b.png", "sub/c.png", "a.png"]
        assert bunch.data.tolist() == [str(root / name) for name in bunch.filenames]
        assert bunch["DESCR"] == f"3 images of 2 classes in {root}"
        assert len(check_images(bunch.data)) == 3

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("file;label\na.png;dog\n", "labels.csv"),
            ("file\tlabel\na.png\tdog\n", "labels.csv"),
            ("file\tlabel\na.png\tdog\n", "labels.tsv"),
            ("file,label\na.png,dog\n", "labels.tsv"),
            ("file|label\na.png|dog\n", "labels.txt"),
            ("file, label\na.png, dog \n", "labels.csv"),
            ("\ufefffile,label\na.png,dog\n", "labels.csv"),
            ("file,label\r\na.png,dog\r\n", "labels.csv"),
            ("file,label\na.png,dog", "labels.csv"),
            ("file,label\n\na.png,dog\n\n", "labels.csv"),
            ('"file","label"\n"a.png","dog"\n', "labels.csv"),
            ('"file";"label"\n"a.png";"dog"\n', "labels.csv"),
            ("id,label,note,file\n1,dog,x,a.png\n", "labels.csv"),
            ('file,label,"what, when; and where"\na.png,dog,"x, y; z"\n', "labels.csv"),
            ('file;label;"what, when, and, where"\na.png;dog;"x, y, z"\n', "labels.csv"),
        ],
    )
    def test_common_forms_of_tables_are_read(self, root, text, name):
        bunch = self.load(root, text, name)
        assert bunch.target.tolist() == ["dog"]
        assert bunch.filenames.tolist() == ["a.png"]

    def test_fields_may_have_quoted_separators_and_quotes(self, root):
        make(root, "one, two.png")
        bunch = self.load(root, 'file,label\n"one, two.png","a ""big"", brown dog"\n')
        assert bunch.target.tolist() == ['a "big", brown dog']
        assert bunch.filenames.tolist() == ["one, two.png"]

    def test_quotes_may_follow_a_space(self, root):
        assert self.load(root, 'file, label\n"a.png", "dog, big"\n').target.tolist() == ["dog, big"]

    def test_classes_are_in_sorted_order(self, root):
        bunch = self.load(root, "file,label\na.png,c9\nb.png,c10\nsub/c.png,c09\n")
        assert bunch.target_names == ["c09", "c10", "c9"] == np.unique(bunch.target).tolist()

    def test_order_of_equal_numbers_is_fixed(self, root):
        for lines in (["a.png,1", "b.png,01", "b.png,001"], ["b.png,001", "a.png,1", "b.png,01"]):
            bunch = self.load(root, "\n".join(["file,label", *lines]))
            assert bunch.target_names == ["001", "01", "1"]

    def test_files_are_relative_to_root(self, root, tmp_path):
        other = make(tmp_path / "elsewhere", "x.png")
        for given in (other, str(other)):
            bunch = self.load(root, "file,label\nx.png,dog\n", root=given)
            assert bunch.data.tolist() == [str(other / "x.png")]

    def test_paths_may_be_absolute(self, root, tmp_path):
        other = make(tmp_path / "elsewhere", "x.png")
        nowhere = tmp_path / "nowhere"
        bunch = self.load(root, f"file,label\n{other / 'x.png'},dog\n", root=nowhere)
        assert bunch.data.tolist() == [str(other / "x.png")]
        assert bunch.filenames.tolist() == [(other / "x.png").as_posix()]

    @pytest.mark.parametrize("column", ["file", "label"])
    def test_a_missing_column_is_an_error(self, root, column):
        text = "file,label\na.png,dog\n".replace(column, "other")
        with pytest.raises(ValueError, match=rf"labels\.csv has no column '{column}'; it has \['"):
            self.load(root, text)

    def test_the_error_names_all_missing_files(self, root):
        with pytest.raises(MissingImageError) as raised:
            self.load(root, "file,label\na.png,dog\nx.png,dog\nsub,cat\ny/z.png,cat\n")
        message = str(raised.value)
        assert "3 of 4 files of labels.csv are missing below" in message
        for name in ("x.png", "sub", os.path.join("y", "z.png")):
            assert f"\n  {root / name}" in message
        assert "a.png" not in message

    @pytest.mark.parametrize("line", ["b.png,", "b.png,  ", "b.png", 'b.png,""'])
    def test_lines_without_a_label_are_numbered(self, root, line):
        text = f"file,label\na.png,dog\n\n{line}\nsub/c.png,\n"
        with pytest.raises(ValueError, match=r"2 lines of labels\.csv have no 'label': 4; 5"):
            self.load(root, text)

    def test_lines_without_a_file_are_numbered(self, root):
        with pytest.raises(ValueError, match=r"1 lines of labels\.csv have no 'file': 3"):
            self.load(root, "file,label\na.png,dog\n,cat\n")

    def test_a_table_of_a_header_only_is_refused(self, root):
        with pytest.raises(ValueError, match=r"labels\.csv has no lines below its header"):
            self.load(root, "file,label\n")

    @pytest.mark.parametrize("text", ["", "\n", "\ufeff"])
    def test_an_empty_table_is_refused(self, root, text):
        with pytest.raises(ValueError, match=r"has no column '(file|label)'; it has \[\]"):
            self.load(root, text)

    def test_other_encodings_are_not_guessed(self, root):
        for encoding in ("latin-1", "utf-16"):
            with pytest.raises(ValueError, match=r"expected labels\.csv to be text in UTF-8"):
                self.load(root, "file,label\na.png,Bär\n".encode(encoding))

    def test_a_table_may_have_unicode_names(self, root):
        assert self.load(root, "file,label\na.png,Bär 熊\n").target.tolist() == ["Bär 熊"]

    def test_a_missing_table_is_an_error(self, root):
        with pytest.raises(FileNotFoundError, match=r"none\.csv"):
            load_image_table(root / "none.csv", image_column="file", label_column="label")

    def test_the_path_of_a_table_may_be_a_string(self, root, monkeypatch):
        (root / "labels.csv").write_text("file,label\na.png,dog\n")
        monkeypatch.chdir(root)
        bunch = load_image_table("labels.csv", image_column="file", label_column="label")
        assert bunch.data.tolist() == ["a.png"]
