"""Figures on pages that the package, its files or its declared requirements determine.

`test_documents_measured.py` and `test_documents_sentences.py` compare figures that were measured.
"""

import re
import runpy
import tomllib

import numpy as np
import pytest
from page_helpers import (
    LANDING,
    PAGES,
    PRETRAINING,
    README,
    RESULTS,
    ROOT,
    TINY,
    agrees,
    check_said,
    number,
    read,
    rows_of,
    said,
)

NUMBERS = {"three": 3, "five": 5, "eleven": 11, "thirteen": 13}


# The bundled backbone.


def test_pages_describe_tiny_correctly():
    from transferclf import get_backbone, list_backbones
    from transferclf.backbones import tiny

    size, parameters = tiny.WEIGHTS_PATH.stat().st_size, get_backbone("tiny").parameters
    check_said(README, r"network of ([\d.]+) MB", size / 1e6)
    assert said(LANDING, r"the (\d+) backbones") == (str(len(list_backbones())),)
    check_said(TINY, r"\| weights \| ([\d,]+) bytes", size)
    check_said(PRETRAINING, r"\| weights file \| ([\d,]+) bytes", size)
    check_said(PRETRAINING, r"([\d.]+) million parameters", parameters / 1e6)
    check_said(TINY, r"\| parameters \| ([\d,]+) \|", parameters)
    check_said(TINY, r"\| features \| ([\d,]+):", tiny.WIDTH)
    assert said(PRETRAINING, r"SHA-256 \| `(\w+)`") == (tiny.WEIGHTS_SHA256,)
    assert float(said(TINY, r"\| (\d+) million multiply-adds")[0]) == float(
        said(PRETRAINING, r"parameters, (\d+) million multiply-adds")[0]
    )
    assert said(TINY, r"\| ([\d,]+) images of 64") == said(
        PRETRAINING, r"are ([\d,]+) for training"
    )


# Statements of the text about the code.


def test_pages_count_the_values_of_l2_correctly():
    from transferclf.training.regularization import CANDIDATES

    pattern = r"among (\w+) values from ([\d.e-]+) to ([\d.e-]+) by"
    many, least, most = said("docs/explanation/design.md", pattern)
    assert (NUMBERS[many], float(least), float(most)) == (
        len(CANDIDATES), min(CANDIDATES), max(CANDIDATES)
    )  # fmt: skip
    tried = runpy.run_path(str(ROOT / "benchmarks/accuracy.py"))["L2_VALUES"]
    for where in ("test set", "held-out folds"):
        pattern = rf"the best of (\w+) `l2` values, chosen on the {where}"
        assert NUMBERS[said(RESULTS, pattern)[0]] == len(tried)
    best = [number(row["best l2"]) for row in rows_of("accuracy")]
    assert all(np.isclose(tried, value, rtol=0.05).any() for value in best)


def test_the_page_counts_the_images_of_the_displays_correctly():
    counts = said("docs/draw_displays.py", r"train_size=(\d+), test_size=(\d+), random_state=0")
    assert said("docs/how_to/reports.md", r"(\d+) to learn from and (\d+) to look at") == counts
    assert (
        said("docs/how_to/reports.md", r"train_size=(\d+), test_size=(\d+), random_state=0")
        == counts
    )


def test_pages_repeat_the_declared_requirements():
    project = tomllib.loads(read("pyproject.toml"))
    assert (
        project["project"]["requires-python"]
        == f">={said(README, r'Python ([0-9.]+) or newer')[0]}"
    )
    (slow,) = [
        marker
        for marker in project["tool"]["pytest"]["ini_options"]["markers"]
        if marker.startswith("slow")
    ]
    (seconds,) = said("CONTRIBUTING.md", r"those of (\w+) seconds or more `slow`")
    assert f"takes {seconds} seconds or more" in slow


def test_messages_name_the_libraries_of_the_extras():
    from transferclf.exceptions import EXTRAS, how_to_install

    declared = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    for extra, libraries in EXTRAS.items():
        wanted = [re.sub(r">=.*", "", library) for library in declared[extra]]
        assert sorted(libraries) == sorted(wanted)
    assert how_to_install("parquet") == 'The extra "parquet" brings it: pip install pyarrow'
    assert how_to_install("torch", ["torch"]) == "Run: pip install torch"


def test_no_text_installs_the_package_by_its_name():
    """It is on no index: an installation is from a folder, a wheel, or a folder of wheels."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("examples/**/*.py"), *map(ROOT.joinpath, PAGES)]
    by_name = re.compile(r"pip install (?!--no-index)[^\n`]*[ \"']?transferclf(?!-\d)")
    wrong = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in files
        for line in by_name.findall(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


# Tests of the helpers: the tests above fail only if the helpers tell figures apart.


@pytest.mark.parametrize(
    ("shown", "exact", "is_right"),
    [
        ("6.9", 7.09, False),
        ("7.1", 7.09, True),
        ("0.909", 0.912, False),
        ("22", 22.19, True),
        ("22", 22.51, False),
        ("3,481,864", 3481864, True),
        ("3,481,864", 3481865, False),
        ("1.2", 1.25, True),
    ],
)
def test_figures_agree_to_their_own_digits(shown, exact, is_right):
    assert agrees(shown, exact) is is_right


def test_a_missing_sentence_is_an_error():
    with pytest.raises(AssertionError, match="0 times; is the sentence another now"):
        said(README, r"no such sentence (\d+)")
