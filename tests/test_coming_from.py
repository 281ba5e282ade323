"""Pages for users of other libraries: their parts, the words that they name, and their figures."""

import re

import pytest
from test_documents_figures import BENCHMARKS, claims, measured, number, part, read, tables

import transferclf
from transferclf import Augmentation, CNNFeatureExtractor, TransferClassifier

FINE_TUNING = "docs/explanation/fine_tuning.md"
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
    (table,) = tables(part(page(name), "## There and here"))
    here = " ".join(row["transferclf"] for row in table)
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


def test_the_page_of_fastai_repeats_the_measured_table():
    (shown,) = tables(part(page("fastai"), "## What changes in the results"))
    exact = {row["images"]: row for row in next(tables(part(FINE_TUNING, "## What it brings")))}
    assert len(shown) == len(exact) == 5
    for row in shown:
        assert row.items() <= exact[row["images"]].items()


def test_the_page_of_scikeras_repeats_the_measured_search():
    (shown,) = tables(part(page("scikeras"), "## What changes in the results"))
    assert len(shown) == 2
    for row in shown:
        head = row["head"]
        ours, theirs = (
            measured(BENCHMARKS, what, column="CPU s, median", below=f"### {head}")
            for what in ("TransferClassifier", "scikeras, twelve times one setting")
        )
        assert (number(row["CPU s, transferclf"]), number(row["CPU s, scikeras"])) == (ours, theirs)
        assert number(row["times faster"]) == claimed(f"{head}: times faster than scikeras")


def claimed(what):
    (row,) = [row for row in claims(read(BENCHMARKS)) if row["claim"] == what]
    return number(row["measured"])


def test_the_page_of_keras_repeats_the_benchmarks():
    (shown,) = tables(part(page("keras"), "## What changes in the results"))
    case = "MobileNetV2, last three layers"
    exact = [
        claimed(f"{case}: an epoch, times faster than Keras"),
        claimed(f"{case}: 10 epochs, nothing stored, times faster than Keras"),
        *(
            measured(
                BENCHMARKS, "extraction, tensorflow", column="times Keras", below=f"### {network}"
            )
            for network in ("mobilenet_v2, 256 images", "vgg16, 64 images")
        ),
        measured_step(),
    ]
    assert [number(row["times faster than Keras"]) for row in shown] == exact


def measured_step():
    title = "efficientnet_lite0, 128 pixels: 4 steps of 32 images"
    (table,) = [table for table in tables(read(BENCHMARKS)) if title in table[0]]
    (ratio,) = [row["ratio of CPU"] for row in table if row[title] == "Keras"]
    return number(ratio)
