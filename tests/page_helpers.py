"""Sentences and tables of the pages, and the records of measured tables that they agree with."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
README, BENCHMARKS, RESULTS = (
    "README.md",
    "docs/explanation/benchmarks.md",
    "docs/explanation/results.md",
)
START, EXPECTATIONS, LANDING = "docs/start/index.md", "docs/start/expectations.md", "docs/index.md"
DESIGN, FINE_TUNING = "docs/explanation/design.md", "docs/explanation/fine_tuning.md"
CHOOSING = "docs/tutorials/choosing_a_backbone.md"
SCALING = "docs/tutorials/scaling_out.md"
TINY, PRETRAINING = "docs/explanation/tiny.md", "tools/pretrain_tiny/README.md"


@cache
def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def figures_module():
    """Return `benchmarks/figures.py`, which writes and reads the records."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks/figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = [*figures_module().pages()]


@cache
def records():
    return figures_module().read()


def tables(text):
    """Return the tables of a text."""
    return [*figures_module().tables(text + "\n")]


def rows_of(name):
    """Return the rows of a recorded table: dicts by column title."""
    record = records()[name]
    return [dict(zip(record["columns"], row, strict=True)) for row in record["rows"]]


def figure(name, *first, column):
    """Return the number in a column of the only recorded row that begins with these cells."""
    (row,) = [row for row in rows_of(name) if tuple(row.values())[: len(first)] == first]
    return number(row[column])


def matches(page, pattern):
    """Return all matches of a pattern on a page. Its spaces also match line breaks."""
    return [*re.finditer(pattern.replace(" ", r"\s+"), read(page))]


def said(page, pattern):
    """Return the figures of the only match of a pattern on a page, one for each group."""
    found = [match.groups() for match in matches(page, pattern)]
    assert len(found) == 1, (
        f"{page} has {pattern!r} {len(found)} times; is the sentence another now?"
    )
    return found[0]


def number(text):
    """Return the number at the start of a text: 3481864 for "3,481,864 bytes"."""
    return float(re.match(r"[\d,]+(?:\.\d+)?(?:e[+-]\d+)?", text)[0].replace(",", ""))


def half_a_digit(text):
    """Return half a unit of the last digit of a figure."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def agrees(shown, exact):
    """Return whether a figure equals an exact value, rounded to the digits of the figure."""
    return abs(number(shown) - exact) <= half_a_digit(shown) * (1 + 1e-6)


def check_said(page, pattern, *exact):
    shown = said(page, pattern)
    wrong = [
        (one, other) for one, other in zip(shown, exact, strict=True) if not agrees(one, other)
    ]
    assert not wrong, f"{page}, {pattern!r}: (said, measured) are {wrong}"


# Results of fine-tuning, and accuracies.

TUNED = {
    "fine-tuning": "efficientnet_lite0",
    "fine-tuning, MobileNetV2": "MobileNetV2",
    "fine-tuning, tiny": "tiny",
}


@cache
def runs():
    """Return all measurements of `fine_tuning_quality.py` on test images."""
    lines = read("benchmarks/results/fine_tuning_quality.jsonl").splitlines()
    return [it for it in map(json.loads, lines) if not it["validation"]]


def of_seeds(backbone, images, method):
    """Return the accuracies of three seeds, and the CPU seconds of the first."""
    found = [
        it
        for it in runs()
        if (it["backbone"], it["set"], it["method"]) == (backbone, images, method)
    ]
    found.sort(key=lambda it: it["seed"])
    assert [it["seed"] for it in found] == [0, 1, 2]
    return [it["accuracy"] for it in found], found[0]["cpu"]


# Tables of EfficientNet-Lite0 on images that had no part in the recipe.
NEW_SETS, OTHER_SETS = "fine-tuning, new images", "fine-tuning, other images"


def of_three(method, images):
    """Return the mean accuracy of EfficientNet-Lite0 with three seeds."""
    return mean(of_seeds("efficientnet_lite0", images, method)[0])


def sets_of(table):
    return [row["images"].split(",")[0] for row in rows_of(table)]


def points_above(method, other, sets):
    """Return by how many points of mean accuracy a method is above another one, for each set."""
    return {name: 100 * (of_three(method, name) - of_three(other, name)) for name in sets}


def points_below_the_best(sets):
    """Return by how many points "auto" is below the best of what it chooses from, for each set."""
    return {
        name: 100
        * (
            max(of_three(method, name) for method in ("probe", "ours, last block", "ours"))
            - of_three("ours, auto", name)
        )
        for name in sets
    }


def of_one_seed(images, method):
    """Return accuracy and CPU seconds of EfficientNet-Lite0 with the first seed."""
    (found,) = [
        it
        for it in runs()
        if (it["backbone"], it["set"], it["method"]) == ("efficientnet_lite0", images, method)
        and it["seed"] == 0
    ]
    return found["accuracy"], found["cpu"]


def ablations(backbone, change, figure):
    """Return the differences of a figure from the recipe's, one for each image set."""
    lines = read("benchmarks/results/fine_tuning_ablation.jsonl").splitlines()
    found = {
        (it["set"], it["change"]): it[figure]
        for it in map(json.loads, lines)
        if it["backbone"] == backbone
    }
    names = dict.fromkeys(name for name, _ in found)
    return [found[name, change] - found[name, "recipe"] for name in names]


def gains(name):
    """Return by how many points fine-tuning is above the frozen network, by set."""
    return {
        row["images"]: 100 * (number(row["all layers"]) - number(row["frozen"]))
        for row in rows_of(name)
    }


def accuracy(images, backbone, column="accuracy"):
    return figure("accuracy", images, backbone, column=column)
