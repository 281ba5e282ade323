"""Names of classes: equal ones, look-alikes, those of splits, and those asked for."""

import unicodedata

import numpy as np
import pytest
from dataset_helpers import make
from hypothesis import given
from hypothesis import strategies as st

from transferclf import load_image_folder, load_image_table
from transferclf.exceptions import ImageError, InvalidParameterError, TransferclfWarning

NFC, NFD = (unicodedata.normalize(form, "crème brûlée") for form in ("NFC", "NFD"))


def told(caught):
    (warning,) = caught
    return str(warning.message)


def table_of(root, *labels):
    """Write a table with an image for each label."""
    make(root, *(f"{number}.png" for number in range(len(labels))))
    lines = [f'{number}.png,"{label}"' for number, label in enumerate(labels)]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    return root / "labels.csv"


class TestUnicodeForms:
    def test_folders_with_one_name_in_nfc_are_one_class(self, tmp_path):
        make(tmp_path, f"{NFC}/1.png", f"{NFD}/2.png", "tart/3.png")
        bunch = load_image_folder(tmp_path)
        assert bunch.target_names == [NFC, "tart"]
        assert sorted(zip(bunch.target.tolist(), bunch.filenames.tolist(), strict=True)) == [
            (NFC, f"{NFD}/2.png"),
            (NFC, f"{NFC}/1.png"),
            ("tart", "tart/3.png"),
        ]

    def test_equal_names_across_splits_are_one_class(self, tmp_path):
        make(tmp_path, f"train/{NFD}/1.png", f"test/{NFC}/2.png")
        bunch = load_image_folder(tmp_path, split=["train", "test"])
        assert bunch.target.tolist() == [NFC, NFC]

    def test_equal_names_in_a_table_are_one_class(self, tmp_path):
        bunch = load_image_table(table_of(tmp_path, NFC, NFD), "file", "label")
        assert bunch.target.tolist() == [NFC, NFC]

    def test_split_and_classes_accept_either_form(self, tmp_path):
        make(tmp_path, f"{NFD}/{NFC}/1.png", f"{NFD}/tart/1.png")
        for form in (NFC, NFD):
            bunch = load_image_folder(tmp_path, split=form, classes=[form])
            assert bunch.target.tolist() == bunch.target_names == [NFC]

    @given(st.lists(st.text("éèe\u0301\u0300aA", min_size=1, max_size=4), min_size=1, max_size=6))
    def test_target_names_are_the_classes_of_a_classifier(self, labels):
        from transferclf.datasets.bunches import bunch

        labels = [unicodedata.normalize("NFC", label) for label in labels]
        found = bunch(root=NFC, files=[], labels=labels, classes=None)
        assert found.target.tolist() == labels
        assert found.target_names == np.unique(found.target).tolist() == sorted(set(labels))


class TestLookAlikes:
    @pytest.mark.parametrize(
        "alike",
        [
            ["Dog", "dog"],
            ["red oak", "red  oak", "Red\u00a0oak"],
            [" dog", "dog"],
            ["dog ", "dog"],
            ["fig", "ﬁg"],
            ["zo\u200bo", "zoo"],
            ["STRASSE", "straße"],
            ["\u202edog", "dog"],
        ],
    )
    def test_look_alikes_are_different_classes_with_one_warning(self, tmp_path, alike):
        make(tmp_path, *(f"{name}/1.png" for name in [*alike, "cat"]))
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load_image_folder(tmp_path)
        assert bunch.target_names == sorted([*alike, "cat"])
        message = told(caught)
        assert "read as different classes: " in message
        pair = message.split("read as different classes: ")[1].split(";")[0]
        assert pair.count("'") == 2 * len(alike)
        assert caught[0].filename == __file__

    def test_the_warning_escapes_names_that_print_the_same(self, tmp_path):
        make(tmp_path, "\u00b5m/1.png", "\u03bcm/1.png")
        with pytest.warns(TransferclfWarning, match=r"'\\xb5m' and '\\u03bcm'"):
            load_image_folder(tmp_path)

    def test_look_alikes_in_a_table_raise_a_warning(self, tmp_path):
        table = table_of(tmp_path, "dog", "Dog", "cat", "d og")
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load_image_table(table, "file", "label")
        assert bunch.target.tolist() == ["dog", "Dog", "cat", "d og"]
        assert "classes of labels.csv with names that differ only" in told(caught)
        assert "'Dog' and 'd og' and 'dog'" in told(caught)

    def test_white_space_around_labels_of_a_table_is_removed(self, tmp_path):
        table = table_of(tmp_path, " dog", "dog\t", "\u00a0dog ", "dog\0")
        assert load_image_table(table, "file", "label").target.tolist() == ["dog"] * 4

    def test_many_look_alikes_are_shortened(self, tmp_path):
        make(tmp_path, *(f"{name}/1.png" for n in range(9) for name in (f"c{n}", f"C{n}")))
        with pytest.warns(TransferclfWarning, match=r"'C4' and 'c4' and 4 more"):
            load_image_folder(tmp_path)

    def test_look_alikes_named_in_classes_raise_no_warning(self, tmp_path):
        make(tmp_path, "a/1.png", "A/2.png", "b/3.png")
        bunch = load_image_folder(tmp_path, classes=["a", "A"])
        assert bunch.target_names == ["a", "A"]
        assert bunch.target.tolist() == ["A", "a"]


class TestClassesOfSplits:
    def test_target_names_are_the_classes_of_the_split_read(self, tmp_path):
        """Check that target_names equal the classes_ of a classifier fitted to the split."""
        make(tmp_path, "train/ant/1.png", "train/cat/1.png", "test/cat/1.png", "test/bee/1.png")
        for split, names in {
            "train": ["ant", "cat"],
            "test": ["bee", "cat"],
            ("test", "train"): ["ant", "bee", "cat"],
        }.items():
            with pytest.warns(TransferclfWarning, match="different classes"):
                bunch = load_image_folder(tmp_path, split=split)
            assert bunch.target_names == names == np.unique(bunch.target).tolist()

    @pytest.mark.parametrize("split", ["train", "valid", ["valid", "test"]])
    def test_one_warning_names_classes_missing_in_some_splits(self, tmp_path, split):
        trained = ("ant", "bee", "cat", "dog", "oak")
        make(tmp_path, *(f"train/{name}/1.png" for name in trained))
        make(tmp_path, *(f"valid/{name}/1.png" for name in ("ant", "dog", "oak")))
        make(tmp_path, *(f"test/{name}/1.png" for name in ("ant", "bee", "cat", "dog", "Oak")))
        with pytest.warns(TransferclfWarning) as caught:
            load_image_folder(tmp_path, split=split)
        message = told(caught)
        assert f"the splits of {str(tmp_path)!r} have different classes: " in message
        assert "'bee', 'cat' in test and train, not in valid" in message
        assert "'Oak' in test, not in train and valid" in message
        assert "'oak' in train and valid, not in test" in message
        assert "'Oak' (test) and 'oak' (train and valid)" in message
        assert "'ant'" not in message
        assert caught[0].filename == __file__

    def test_look_alikes_in_all_splits_are_classes(self, tmp_path):
        make(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "test") for name in "aA"))
        with pytest.warns(TransferclfWarning) as caught:
            load_image_folder(tmp_path, split="test")
        assert "different classes: 'A' (test and train) and 'a' (test and train)" in told(caught)
        assert "splits of" not in told(caught)

    def test_an_empty_folder_is_no_class_of_a_split(self, tmp_path):
        make(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
        (tmp_path / "test" / "dog").mkdir()
        with pytest.warns(TransferclfWarning, match="'dog' in train, not in test"):
            assert load_image_folder(tmp_path, split="train").target_names == ["cat", "dog"]

    def test_folders_beside_the_splits_are_no_classes(self, tmp_path):
        make(tmp_path, "train/cat/1.png", "test/cat/1.png", "notes/figures/1.png", "code/src/a.py")
        assert load_image_folder(tmp_path, split="train").target_names == ["cat"]

    def test_folders_with_a_class_in_common_are_splits_by_any_name(self, tmp_path):
        make(tmp_path, "fold1/cat/1.png", "fold1/dog/1.png", "fold2/Cat/1.png")
        with pytest.warns(TransferclfWarning, match=r"'Cat' \(fold2\) and 'cat' \(fold1\)"):
            load_image_folder(tmp_path, split="fold1")


class TestClassesParameter:
    @pytest.fixture
    def root(self, tmp_path):
        return make(tmp_path, *(f"{name}/{n}.png" for name in ("cat", "dog", "emu") for n in "12"))

    @pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
    def test_classes_restrict_and_order_the_target_names(self, root, kind):
        bunch = load_image_folder(root, classes=kind(["emu", "cat"]))
        assert bunch.target_names == ["emu", "cat"]
        assert all(type(name) is str for name in bunch.target_names)
        assert bunch.target.tolist() == ["cat", "cat", "emu", "emu"]
        assert bunch.filenames[0] == "cat/1.png"

    def test_other_classes_are_left_out_without_a_warning(self, root):
        make(root, "notes/a.txt", "fox/nested/1.png")
        (root / "empty").mkdir()
        assert len(load_image_folder(root, classes=["dog"]).data) == 2

    def test_the_error_names_unknown_and_existing_classes(self, root):
        with pytest.raises(InvalidParameterError) as raised:
            load_image_folder(root, classes=["Dog", "cat", "emo", "xyz"])
        message = str(raised.value)
        assert f"the class folders of {str(root)!r}: 'cat', 'dog', 'emu'." in message
        assert "Got 'Dog', 'emo', 'xyz' too" in message
        assert message.endswith("Did you mean 'dog' for 'Dog', 'emu' for 'emo'?")

    @pytest.mark.parametrize(
        "classes",
        ["cat", b"cat", [], (), 3, [3], [None], ["cat", 1], {"cat": 0}, object(), [["cat"]]],
        ids=lambda classes: type(classes).__name__,
    )
    def test_values_that_are_no_sequence_of_names_are_refused(self, root, classes):
        with pytest.raises(InvalidParameterError, match="classes must be a sequence of names"):
            load_image_folder(root, classes=classes)

    @pytest.mark.parametrize("classes", [["cat", "dog", "cat"], [NFC, NFD]])
    def test_repeated_classes_are_refused(self, root, classes):
        with pytest.raises(
            InvalidParameterError, match=r"different names. Got '.*' more than once"
        ):
            load_image_folder(root, classes=classes)

    def test_a_class_of_another_split_only(self, tmp_path):
        make(tmp_path, "train/oak/1.png", "train/elm/1.png", "test/Oak/1.png", "test/elm/1.png")
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load_image_folder(tmp_path, split="test", classes=["oak", "elm"])
        assert bunch.target.tolist() == ["elm"]
        assert bunch.target_names == ["oak", "elm"]
        assert "'oak' in train, not in test" in told(caught)
        assert "'Oak' (test) and 'oak' (train)" in told(caught)

    def test_other_classes_may_differ_between_splits(self, tmp_path):
        make(tmp_path, "train/oak/1.png", "train/elm/1.png", "test/Oak/1.png", "test/elm/1.png")
        assert load_image_folder(tmp_path, split="test", classes=["elm"]).target_names == ["elm"]

    def test_a_split_without_the_given_classes_is_refused(self, tmp_path):
        make(tmp_path, "train/oak/1.png", "test/Oak/1.png")
        with pytest.raises(ImageError, match=r"classes 'oak' in .* Did you mean 'Oak' for 'oak'\?"):
            load_image_folder(tmp_path, split="test", classes=["oak"])

    def test_a_given_class_without_images(self, root):
        (root / "fox").mkdir()
        with pytest.warns(TransferclfWarning, match="fox holds no images"):
            bunch = load_image_folder(root, classes=["fox", "cat"])
        assert bunch.target_names == ["fox", "cat"]
        assert bunch.target.tolist() == ["cat", "cat"]

    def test_classes_restrict_a_table(self, tmp_path):
        table = table_of(tmp_path, "dog", "cat", "dog", "Dog")
        (tmp_path / "1.png").unlink()  # a file of another class
        bunch = load_image_table(table, "file", "label", classes=["dog"])
        assert bunch.target.tolist() == ["dog", "dog"]
        assert bunch.target_names == ["dog"]
        assert bunch.filenames.tolist() == ["0.png", "2.png"]

    def test_classes_missing_in_a_table_are_refused(self, tmp_path):
        table = table_of(tmp_path, "dog", "cat")
        with pytest.raises(InvalidParameterError) as raised:
            load_image_table(table, "file", "label", classes=["dogs", "cat"])
        message = str(raised.value)
        assert "among the values of 'label' in labels.csv: 'cat', 'dog'. Got 'dogs' too." in message
        assert message.endswith("Did you mean 'dog' for 'dogs'?")
