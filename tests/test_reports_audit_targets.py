"""Tests of audit for several labels and for numbers: swapped targets come first."""

import numpy as np
import pandas as pd
import pytest
from report_helpers import HOSTILE
from scipy import sparse

from transferclf import CNNFeatureExtractor
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import audit
from transferclf.reports.auditing.targets import targets_of

N = 60
LEFT_LACKS, TOP_HAS = 4, 11  # the images whose labels are wrong
OUTLIER = 21


def extractor():
    return CNNFeatureExtractor("tiny", image_size=32)


@pytest.fixture(scope="module")
def labelled():
    """Images with a bright left half or not, and red or not, and their indicator."""
    rng = np.random.default_rng(0)
    table = np.column_stack([np.arange(N) % 2, np.arange(N) // 2 % 2])
    images = rng.integers(0, 60, (N, 32, 32, 3), dtype=np.uint8)
    for image, (is_left, is_red) in zip(images, table, strict=True):
        image[:, :16] += np.uint8(150 * is_left)
        image[16:, :, 0] += np.uint8(40 * is_red)
    return images, table


@pytest.fixture(scope="module")
def wrong(labelled):
    """The indicator with two wrong entries."""
    table = labelled[1].copy()
    assert table[LEFT_LACKS].tolist() == [0, 0]
    assert table[TOP_HAS].tolist() == [1, 1]
    table[LEFT_LACKS, 0] = 1
    table[TOP_HAS, 0] = 0
    return pd.DataFrame(table, columns=["left", "red"])


@pytest.fixture(scope="module")
def found(labelled, wrong):
    splits = ["train"] * 40 + ["test"] * 20
    # No image counts as a near copy of another: near copies are judged together.
    return audit(labelled[0], wrong, splits=splits, extractor=extractor(), threshold=1.0)


@pytest.fixture(scope="module")
def graded():
    """Images of one gray each with noise, and numbers that are proportional to it."""
    rng = np.random.default_rng(0)
    values = np.linspace(0, 1, N)
    images = (200 * values[:, None, None, None] + 20 * rng.random((N, 32, 32, 3))).astype(np.uint8)
    return images, values


# Several labels ------------------------------------------------------------------------------


def test_missing_and_wrong_labels_come_first(found):
    errors = found.label_errors
    rows = {row["index"]: row for row in errors.to_dict("records") if row["target"] == "left"}
    assert {LEFT_LACKS, TOP_HAS} <= set(errors["index"][:3])
    assert rows[TOP_HAS]["suggested"] == "left"
    assert rows[TOP_HAS]["label"] == "red"
    assert rows[LEFT_LACKS]["suggested"] == "not left"
    assert rows[LEFT_LACKS]["label"] == "left"
    for row in rows.values():
        assert row["probability"] + row["suggested_probability"] == pytest.approx(1)
        assert row["probability"] < 0.5
    assert (np.diff(errors["probability"]) >= 0).all()
    assert set(np.argsort(found.quality)[:3]) >= {LEFT_LACKS, TOP_HAS}


def test_labels_are_counted(found, wrong):
    counts = dict(zip(found.label_counts["label"], found.label_counts["count"], strict=True))
    assert counts == {"left": wrong["left"].sum(), "red": wrong["red"].sum()}
    np.testing.assert_allclose(found.label_counts["share"], found.label_counts["count"] / N)
    assert found.classes.tolist() == ["left", "red"]
    assert found.kind == "multilabel"


def test_the_text_says_what_is_missing(found):
    text = str(found)
    assert text.startswith("60 images, 2 labels, 2 splits")
    assert f"image {TOP_HAS} (red, train): rather left (" in text
    assert f"image {LEFT_LACKS} (left, train): rather not left (" in text
    assert "images with each label: 2 labels\n  left: 30 (50%)" in text


def test_labels_have_any_form(labelled, wrong):
    images, table = labelled[0][:30], wrong.to_numpy()[:30]
    of_sets = audit(images, [set(np.flatnonzero(row)) for row in table], extractor=extractor())
    of_matrix = audit(images, sparse.csr_matrix(table), extractor=extractor())
    assert of_matrix.label_errors.equals(of_sets.label_errors)
    assert of_matrix.classes.tolist() == of_sets.classes.tolist() == [0, 1]
    of_array = targets_of(table, 30, None)
    np.testing.assert_array_equal(of_array.table, table)
    np.testing.assert_array_equal(targets_of(wrong[:30], 30, None).table, table)


def test_copies_with_different_label_sets_are_conflicts(labelled):
    images, table = labelled[0][:12].copy(), labelled[1][:12].copy()
    images[7], images[9] = images[2], images[1]
    table[7] = 1 - table[2]
    table[9] = table[1]
    names = np.array(["left", "red"])
    sets = [names[row == 1].tolist() for row in table]
    found = audit(images, sets, extractor=extractor())
    exact = found.label_conflicts[found.label_conflicts["kind"] == "exact"]
    assert exact[["index", "other_index"]].to_numpy().tolist() == [[2, 7]]
    assert exact["label"].tolist() == [", ".join(sets[2])]
    assert exact["other_label"].tolist() == [", ".join(sets[7])]
    assert sorted(found.exact_duplicates["index"]) == [1, 2, 7, 9]


def test_labels_that_a_split_lacks_and_names_that_look_alike(labelled):
    images = labelled[0][:6]
    sets = [{"sea", "sun"}, {"sun"}, {"Sun"}, {"sun"}, {"sun"}, set()]
    splits = ["train"] * 3 + ["test"] * 3
    found = audit(images, sets, splits=splits, extractor=extractor())
    lacking = found.missing_classes[["label", "missing_from"]].to_numpy().tolist()
    assert lacking == [["Sun", "test"], ["sea", "test"]] or lacking == [
        ["sea", "test"],
        ["Sun", "test"],
    ]
    assert found.similar_names[["label", "other_label"]].to_numpy().tolist() == [["sun", "Sun"]]


def test_a_label_of_all_or_no_images_is_not_judged(labelled):
    images, table = labelled[0][:20], labelled[1][:20]
    wide = np.column_stack([table, np.zeros(20, int), np.ones(20, int), np.arange(20) == 3])
    found = audit(images, wide, extractor=extractor())
    assert set(found.label_errors["target"]) <= {0, 1}
    assert np.isfinite(found.quality).all()


# Numbers -------------------------------------------------------------------------------------


def test_values_far_from_their_prediction_come_first(graded):
    images, values = graded
    values = values.copy()
    values[OUTLIER] += 3
    found = audit(images, values, extractor=extractor(), threshold=1.0)
    first = found.outlying_values.iloc[0]
    assert first["index"] == OUTLIER
    assert first["value"] == values[OUTLIER]
    assert abs(first["predicted"] - (values[OUTLIER] - 3)) < 0.5
    assert first["deviations"] > 3.5
    assert f"image {OUTLIER}: {values[OUTLIER]:.6g} where" in str(found)
    assert len(found.label_errors) == 0
    assert np.isnan(found.quality).all()
    assert str(found).startswith("60 images, 1 output, no splits")


def test_outlying_values_name_their_output(graded):
    images, values = graded
    table = pd.DataFrame({"dark": 1 - values, "bright": values})
    table.loc[OUTLIER, "dark"] -= 4
    found = audit(images, table, extractor=extractor(), threshold=1.0)
    first = found.outlying_values.iloc[0]
    assert (first["index"], first["target"]) == (OUTLIER, "dark")
    assert first["deviations"] < -3.5
    assert f"image {OUTLIER}: dark" in str(found)


def test_copies_with_different_values_are_conflicts(graded):
    images, values = graded[0][:12].copy(), graded[1][:12]
    images[7] = images[2]
    found = audit(images, values, extractor=extractor())
    exact = found.label_conflicts[found.label_conflicts["kind"] == "exact"]
    assert exact[["label", "other_label"]].to_numpy().tolist() == [[values[2], values[7]]]


def test_whole_numbers_are_classes_unless_the_kind_is_named(graded):
    y = np.arange(12) // 4
    assert audit(graded[0][:12], y, kind="numbers", extractor=extractor()).kind == "numbers"
    for targets, kind in (
        (y, "classes"),
        (y.astype(float), "classes"),
        (y + 0.5, "numbers"),
        (np.column_stack([y, y + 0.5]), "numbers"),
        (np.column_stack([y == 0, y > 0]), "multilabel"),
        ([{"a"}] * 12, "multilabel"),
    ):
        assert targets_of(targets, 12, None).kind == kind


def test_few_images_have_no_outlying_values(graded):
    found = audit(graded[0][:6], graded[1][:6], extractor=extractor())
    assert found.outlying_values.empty


# Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        (np.eye(6, dtype=int)[:5], None, "6 images and 5 sets or rows"),
        (np.eye(6) * 2, None, "with 2.0 in row 0"),
        (np.where(np.eye(6) == 1, np.nan, 0), None, "no label for 6 of 6 images"),
        ([{"a"}, {None}] * 3, None, "Got the label None at index 1"),
        ([{"a"}, "b"] * 3, None, "y must"),
        (np.zeros((6, 2, 2)), None, "dim 3"),
        (np.linspace(0, 1, 5), None, "6 images and 5 targets"),
        ([0.5, np.nan] * 3, "numbers", "Input y contains NaN"),
        ([0.5, None] * 3, "numbers", "Input y contains NaN"),
        (["a"] * 6, "numbers", "y must be numbers"),
        (np.arange(6), "multilabel", "expected a set of labels"),
        (np.arange(6), "labels", "kind must be one of"),
        (np.arange(6), 3, "kind must be one of"),
    ],
)
def test_wrong_targets_raise_an_error_before_extraction(graded, monkeypatch, y, kind, message):
    monkeypatch.setattr(CNNFeatureExtractor, "fit_transform", None)
    with pytest.raises(ValueError, match=message):
        audit(graded[0][:6], y, kind=kind)


def test_the_kind_is_checked_without_targets(graded):
    with pytest.raises(InvalidParameterError, match="kind must be one of"):
        audit(graded[0][:6], kind="regression")


def test_hostile_names_of_labels_are_printed_on_one_line(labelled):
    images = labelled[0][:20]
    sets = [{HOSTILE[index % 5], HOSTILE[(index + 1) % 5]} for index in range(20)]
    images = images.copy()
    images[6] = images[1]
    images[8] = images[1]
    found = audit(images, sets, splits=HOSTILE * 4, extractor=extractor(), threshold=1.0)
    text = str(found)
    assert "\x00" not in text
    assert "images with each label: 5 labels" in text
    assert set(found.label_counts["label"]) == set(HOSTILE)
    assert any(line.strip().startswith("two lines: 8 (40%)") for line in text.splitlines())
