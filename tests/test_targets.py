"""Tests of errors for images and labels in one argument, and for wrong labels: one clear line."""

import numpy as np
import pandas as pd
import pytest
from image_helpers import in_kind, striped_images
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from transferclf import TransferClassifier, load_image_folder
from transferclf.exceptions import ImageError, TransferclfWarning
from transferclf.objectives import objective_for

N = 12
IMAGES = striped_images(N, np.random.default_rng(7))
LABELS = np.arange(N) % 3
ONE_HOT = np.eye(3)[LABELS]


def classifier():
    return TransferClassifier(image_size=32, random_state=0)


@pytest.fixture
def folder(tmp_path):
    for name in ("across", "down", "noise"):
        (tmp_path / name).mkdir()
    for number, image in enumerate(IMAGES):
        in_kind([image], "paths", tmp_path / ("across", "down", "noise")[number % 3])
        source = tmp_path / ("across", "down", "noise")[number % 3] / "0.png"
        source.rename(source.with_name(f"{number:02}.png"))
    return tmp_path


class TestSeparateImagesAndLabels:
    @pytest.mark.parametrize("as_text", [str, lambda path: path])
    @pytest.mark.parametrize("arguments", [(), (LABELS,), (None,)])
    def test_the_error_for_a_folder_names_load_image_folder(self, folder, as_text, arguments):
        with pytest.raises(ImageError, match="load_image_folder.*bunch.data and bunch.target"):
            classifier().fit(as_text(folder), *arguments)
        bunch = load_image_folder(folder)
        assert classifier().fit(bunch.data, bunch.target).score(bunch.data, bunch.target) == 1

    def test_the_error_for_a_bunch_names_its_parts(self, folder):
        with pytest.raises(
            ImageError, match=r"a Bunch with both: pass bunch.data and bunch.target"
        ):
            classifier().fit(load_image_folder(folder))
        with pytest.raises(ImageError, match=r"pass bunch.images and bunch.target"):
            classifier().fit(load_digits())
        with pytest.raises(ImageError, match=r"a dict with both: pass bunch.data"):
            classifier().fit({"data": IMAGES, "target": LABELS}, None)
        with pytest.raises(ImageError, match=r"pass bunch.data and bunch.target"):
            classifier().partial_fit(Bunch(data=IMAGES, target=LABELS), None, classes=[0, 1, 2])

    def test_the_error_for_a_pair_shows_how_to_unpack_it(self):
        with pytest.raises(ImageError, match=r"as in fit\(\*pair\)"):
            classifier().fit((IMAGES, LABELS))
        # A tuple of two images with their labels is valid.
        assert classifier().fit((IMAGES[0], IMAGES[1]), [0, 1]).classes_.tolist() == [0, 1]

    def test_images_without_labels_raise_an_error(self):
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            classifier().fit(IMAGES)

    def test_a_single_file_raises_an_error(self, folder):
        with pytest.raises(ImageError, match=r"pass it in a list, \[image\]"):
            classifier().fit(str(folder / "down" / "01.png"), [1])


HINTS = {
    "floats": (ONE_HOT, r"pass y\.argmax\(axis=1\)"),
    "integers": (ONE_HOT.astype(np.int8), r"pass y\.argmax\(axis=1\)"),
    "truth": (ONE_HOT == 1, r"pass y\.argmax\(axis=1\)"),
    "lists": (ONE_HOT.tolist(), r"pass numpy\.argmax\(y, axis=1\)"),
    "rows": (list(ONE_HOT), r"pass numpy\.argmax\(y, axis=1\)"),
    "two classes": (np.eye(2)[LABELS % 2], r"pass y\.argmax\(axis=1\)"),
    "table": (pd.get_dummies(pd.Series(LABELS)), r"pass y\.idxmax\(axis=1\)"),
    "sparse": (csr_matrix(ONE_HOT), r"pass y\.toarray\(\)\.argmax\(axis=1\)"),
}


class TestLabels:
    @pytest.mark.parametrize("kind", HINTS)
    def test_one_hot_labels_are_several_labels_with_a_warning_that_names_argmax(self, kind):
        y, hint = HINTS[kind]
        with pytest.warns(TransferclfWarning, match=f"one-hot.*{hint}") as caught:
            objective, targets = objective_for(y, N)
        assert len(caught) == 1
        assert objective.kind == "multilabel"
        expected = np.eye(targets.shape[1])[LABELS % targets.shape[1]]
        np.testing.assert_array_equal(targets, expected)

    def test_one_hot_labels_are_refused_after_a_fit_of_classes(self):
        with pytest.raises(ValueError, match=r"one label for each image.*one-hot.*y\.argmax"):
            classifier().fit(IMAGES, LABELS, validation_data=(IMAGES, ONE_HOT))

    @pytest.mark.parametrize(
        ("y", "got"),
        [
            (np.array([[1, 1, 0]] * N), r"Got none with 2:"),
            (np.zeros((N, 3)), r"Got none with 0, 1, 2:"),
            (np.full((N, 2), 0.5), r"shape \(12, 2\) with 0.5 in row 0, column 0"),
            (np.array([["a", "b"]] * N), r"shape \(12, 2\) of <U1"),
            ([[]] * N, r"at least two labels. Got \[\] alone"),
            (pd.DataFrame({"a": LABELS, "b": LABELS}), r"with 2 in row 2, column 0"),
            (pd.DataFrame([[0, 1]] * N, columns=["a", "a"]), "Got 'a' more than once"),
            (pd.DataFrame([[0, None]] * N, columns=["a", "b"]), "no label for 12 of 12 images"),
            ([{"label": "a"}] * N, r"\{'label': 'a'\} at index 0"),
            ([{"a"}, "b"] * 6, r"'b' at index 1: expected a set"),
            ([{"a"}, {None}] * 6, r"the label None at index 1"),
            ([{"a"}, {3}] * 6, r"Got both texts and numbers"),
            ([{"a"}, set()] * 6, r"at least two labels. Got \['a'\] alone"),
            ([{"a"}, {"b"}] * 5, r"12 images and 10 sets"),
            (np.ones((N - 1, 2)), r"12 images and 11 sets or rows"),
            ([[0, 1], [1]] * 6, r"lists of 0 and 1 of different lengths"),
            ([[0, np.nan]] * N, r"no label for 12 of 12 images \(NaN"),
            ([[3, 7]] * N, r"with 3 in row 0, column 0: numbers that are labels"),
        ],
    )
    def test_wrong_label_sets_are_refused_in_one_line(self, y, got):
        with pytest.raises(ValueError, match=got) as caught:
            classifier().fit(IMAGES, y)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250

    def test_a_column_of_labels_is_accepted_with_a_warning(self):
        with pytest.warns(Warning, match="column-vector"):
            column = classifier().fit(IMAGES, LABELS[:, None])
        with pytest.warns(Warning, match="column-vector"):
            listed = classifier().fit(IMAGES, [[label] for label in LABELS.tolist()])
        plain = classifier().fit(IMAGES, LABELS).predict_proba(IMAGES)
        np.testing.assert_array_equal(column.predict_proba(IMAGES), plain)
        np.testing.assert_array_equal(listed.predict_proba(IMAGES), plain)

    @pytest.mark.parametrize(
        "y", [np.float64(3), "labels", 3, {"a": 1}, (label for label in LABELS)]
    )
    def test_other_objects_than_sequences_raise_an_error(self, y):
        with pytest.raises((ValueError, TypeError), match="."):
            classifier().fit(IMAGES, y)

    def test_weights_of_zero_for_all_images_are_refused(self):
        weights = (LABELS == 1).astype(float)
        how = classifier().set_params(class_weight={1: 0})
        with pytest.raises(ValueError, match="leave no image with a weight above zero"):
            how.fit(IMAGES, LABELS, weights)
