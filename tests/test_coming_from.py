"""Pages for users of other libraries: their parts, the words that they name, and their figures."""

import re

import pytest
from page_helpers import figure, number, read, rows_of, tables

import transferclf
from transferclf import Augmentation, CNNFeatureExtractor, TransferClassifier

PAGES = {
    "keras": "Keras",
    "fastai": "fastai",
    "scikeras": "scikeras",
    "autogluon": "AutoGluon",
    "timm": "timm",
}
# Words before "=" that are no parameters of an estimator.
OF_FIT = {"validation_data"}
METHODS = {"fit", "fit_transform", "partial_fit", "predict", "predict_proba", "score"}


def page(name):
    return f"docs/coming_from/{name}.md"


@pytest.mark.parametrize(("name", "library"), PAGES.items())
def test_a_page_has_all_parts_in_order(name, library):
    text = re.sub(r"```.*?```", "", read(page(name)), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == [
        f"Coming from {library}",
        "The same task",
        library,
        "transferclf",
        "There and here",
        "What is the same",
        f"What {library} does better",
        "What changes in the results",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_parameters_that_exist(name):
    (table,) = [it for it in tables(read(page(name))) if it.columns[-1] == "transferclf"]
    here = " ".join(here for _, here in table.rows)
    code = " ".join(re.findall(r"`([^`]*)`", here))
    known = {
        *TransferClassifier().get_params(),
        *CNNFeatureExtractor().get_params(),
        *Augmentation().get_params(),
    }
    named = set(re.findall(r"\b([a-z]\w*)=", code)) - OF_FIT
    assert named
    assert named <= known
    called = {*re.findall(r"\b([A-Za-z]\w+)\(", code)} - METHODS
    assert called <= {*transferclf.__all__}


def shown(name, column):
    """Return the rows of the only table of a page whose first title is `column`."""
    (table,) = [it for it in tables(read(page(name))) if it.columns[0] == column]
    return table.rows


def claimed(record, what):
    return figure(record, what, column="measured")


def test_the_page_of_scikeras_repeats_the_measured_search():
    rows = shown("scikeras", "head")
    assert [head for head, *_ in rows] == ["linear head", "hidden_units=(128,), 5 epochs"]
    for (head, *cells), record in zip(rows, ("search", "search 3"), strict=True):
        ours, theirs = (
            figure(record, what, column="CPU s, median")
            for what in ("TransferClassifier", "scikeras, twelve times one setting")
        )
        times = claimed("search 7", f"{head}: times faster than scikeras")
        assert [number(cell) for cell in cells] == [ours, theirs, times]


def test_the_page_of_keras_repeats_the_benchmarks():
    case = "MobileNetV2, last three layers"
    (step,) = [
        row["ratio of CPU"]
        for row in rows_of("training_step")
        if "efficientnet_lite0, 128 pixels: 4 steps of 32 images" in row and "Keras" in row.values()
    ]
    exact = [
        claimed("fine_tuning 7", f"{case}: an epoch, times faster than Keras"),
        claimed("fine_tuning 7", f"{case}: 10 epochs, nothing stored, times faster than Keras"),
        figure("forward", "extraction, tensorflow", column="times Keras"),
        figure("forward 4", "extraction, tensorflow", column="times Keras"),
        number(step),
    ]
    assert [number(times) for _, times in shown("keras", "task")] == exact
