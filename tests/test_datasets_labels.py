"""Tests of tables with several labels for an image."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from transferclf import load_image_table
from transferclf.exceptions import InvalidParameterError, TransferclfWarning

FILES = ["a.png", "b.png", "c.png"]
TABLE = [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
COLUMNS = ["red", "blue", "old"]
CELLS = ["red| old", "", "blue|red"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in FILES:
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def frame(**columns):
    return pd.DataFrame({"file": FILES} | columns)


def flags(**changes):
    return frame(**(dict(zip(COLUMNS, np.transpose(TABLE).tolist(), strict=True)) | changes))


def load(table, root, columns=COLUMNS, **options):
    return load_image_table(table, "file", columns, root=root, **options)


@pytest.mark.parametrize("values", [int, float, bool, str, "Int64"])
def test_columns_of_zeros_and_ones_are_an_indicator(root, values):
    bunch = load(flags().astype(dict.fromkeys(COLUMNS, values)), root)
    assert bunch.target.tolist() == TABLE
    assert bunch.target.dtype == int
    assert bunch.target_names == COLUMNS
    assert bunch.filenames.tolist() == FILES
    assert load(flags(), root, ["old", "red"]).target.tolist() == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_file_has_label_columns_too(root, separator):
    (root / "flags.csv").write_text(flags().to_csv(index=False, sep=separator))
    bunch = load(root / "flags.csv", None)
    assert bunch.target.tolist() == TABLE
    assert "3 images with 3 labels" in bunch.DESCR


def test_one_column_is_split_at_the_separator(root):
    # With pyarrow, texts of pandas would have a label without a name too.
    expected = pd.Series(["red|old", "", "blue|red"], dtype=object).str.get_dummies(sep="|")
    for table in (frame(tags=CELLS), frame(tags=["red| old", None, "blue|red"])):
        bunch = load(table, root, "tags", label_sep="|")
        assert bunch.target_names == list(expected.columns) == ["blue", "old", "red"]
        np.testing.assert_array_equal(bunch.target, expected)
    (root / "tags.csv").write_text(frame(tags=CELLS).to_csv(index=False))
    np.testing.assert_array_equal(
        load(root / "tags.csv", None, "tags", label_sep="|").target, expected
    )


def test_classes_choose_labels_and_their_order(root):
    bunch = load(frame(tags=CELLS), root, "tags", label_sep="|", classes=["red", "blue"])
    assert bunch.target_names == ["red", "blue"]
    assert bunch.target.tolist() == [[1, 0], [0, 0], [1, 1]]


def test_labels_that_look_alike_are_warned_of(root):
    with pytest.warns(TransferclfWarning, match="'Red' and 'red'"):
        load(frame(tags=["red|Red", "", "red"]), root, "tags", label_sep="|")


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("red||old", r"different and not empty. Got 1 other cells in the data frame: 'red\|\|old'"),
        ("red|red", r"'red\|red' \(row 1\)"),
        ("red|", r"'red\|' \(row 1\)"),
        (3.5, "something else than text"),
    ],
)
def test_wrong_cells_are_named(root, cell, told):
    with pytest.raises(ValueError, match=told):
        load(frame(tags=["red|old", cell, ""]), root, "tags", label_sep="|")


@pytest.mark.parametrize(
    ("old", "told"),
    [
        ([0, 2, 1], "must hold 0 and 1. Got 1 other values in the data frame: 'old' of row 1 is"),
        ([0, "yes", 1], "'old' of row 1 is 'yes'"),
        ([0, None, 1], "1 rows of the data frame have no 'old': 1"),
        ([0, 0.5, 1], "something else than text or whole numbers in 'old'"),
    ],
)
def test_wrong_flags_are_named(root, old, told):
    with pytest.raises(ValueError, match=told):
        load(flags(old=old), root)


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        (COLUMNS, {"label_sep": "|"}, "label_sep goes with one label column"),
        (COLUMNS, {"classes": ["red"]}, "classes goes with one label column"),
        (["red"], {}, "at least two names"),
        (["red", "red"], {}, "Got 'red' more than once"),
        (["red", "green"], {}, "has no column 'green'"),
        ("red", {"label_sep": ""}, "label_sep must be a text"),
        ("red", {"label_sep": 3}, "label_sep must be a text"),
    ],
)
def test_wrong_parameters_are_refused(root, columns, options, told):
    with pytest.raises(InvalidParameterError, match=told):
        load(flags(), root, columns, **options)


def test_a_single_label_and_unknown_labels_are_refused(root):
    with pytest.raises(ValueError, match=r"at least two labels. Got \['red'\] alone"):
        load(frame(tags=["red", "", "red"]), root, "tags", label_sep="|")
    with pytest.raises(InvalidParameterError, match="Did you mean 'red' for 'rde'"):
        load(frame(tags=CELLS), root, "tags", label_sep="|", classes=["rde", "old"])
