"""Figures that a page repeats agree with the measured table."""

import importlib
import re
import runpy
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "tools/*/*.md")
    for path in ROOT.glob(pattern)
)
SCALING = "docs/tutorials/scaling_out.md"
README, BENCHMARKS, RESULTS = (
    "README.md",
    "docs/explanation/benchmarks.md",
    "docs/explanation/results.md",
)
TINY, PRETRAINING = "docs/explanation/tiny.md", "tools/pretrain_tiny/README.md"
NUMBERS = {"three": 3, "five": 5, "eleven": 11, "thirteen": 13}


@cache
def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def said(page, pattern):
    """Return the figures of the only match of a pattern on a page, one for each group.

    A space of the pattern also matches a line break.
    """
    found = [match.groups() for match in re.finditer(pattern.replace(" ", r"\s+"), read(page))]
    assert len(found) == 1, (
        f"{page} has {pattern!r} {len(found)} times; is the sentence another now?"
    )
    return found[0]


def part(page, below):
    """Return the text of a page from a heading to the next one, or the whole page."""
    if below is None:
        return read(page)
    return re.split(r"^#", read(page).split(f"\n{below}\n")[1], flags=re.MULTILINE)[0]


def tables(text):
    """Return the tables of a text, each as a list of rows: dicts by column title."""
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        titles, _, *rest = [
            [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            for line in lines.splitlines()
        ]
        yield [dict(zip(titles, cells, strict=False)) for cells in rest]


def measured(page, *first, column, below=None):
    """Return the cell of a column in the only row of a page that begins with a text."""
    (row,) = [
        row
        for table in tables(part(page, below))
        for row in table
        if column in row and tuple(row.values())[: len(first)] == first
    ]
    return number(row[column])


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


# Counts and ratios of the benchmarks.


def claims(text):
    """Return the rows of all tables of claims, except those repeated below the headline."""
    sections = text.split("\n## ", 1)[1]
    return [row for table in tables(sections) for row in table if "result" in row]


def test_the_claims_of_the_benchmarks_are_counted_right():
    results = [row["result"] for row in claims(read(BENCHMARKS))]
    assert {*results} == {"holds", "does not hold"}
    counts = [
        (page, *map(int, counted))
        for page in PAGES
        for counted in re.findall(r"(\d+)\s+of\s+(\d+)\s+claims", read(page))
    ]
    right = (results.count("holds"), len(results))
    assert (BENCHMARKS, *right) in counts
    assert [each for each in counts if each[1:] != right] == []


def test_the_headline_names_the_missed_claims():
    headline = read(BENCHMARKS).split("\n## ", 1)[0]
    named = [row for table in tables(headline) for row in table]
    assert named == [row for row in claims(read(BENCHMARKS)) if row["result"] == "does not hold"]


def test_a_claim_holds_if_its_figure_keeps_the_promise():
    for row in claims(read(BENCHMARKS)):
        (sign, bound), shown = row["promised"].split(), row["measured"]
        if shown[0] in "<>":
            assert shown[1:].strip() == bound, row
            keeps = (shown[0] == ">") == (sign == "≥")
        else:
            keeps = (
                number(shown) >= number(bound) if sign == "≥" else number(shown) <= number(bound)
            )
        assert row["result"] == ("holds" if keeps else "does not hold"), row


def test_ratios_agree_with_the_seconds_beside_them():
    n_ratios = 0
    for table in tables(read(BENCHMARKS)):
        titles = [*table[0]]
        if titles[-1] != "ratio of CPU":
            continue
        first = table[0][titles[1]]
        for row in table:
            seconds, ratio = row[titles[1]], row[titles[-1]]
            least, most = (
                (number(seconds) + sign * half_a_digit(seconds))
                / (number(first) - sign * half_a_digit(first))
                for sign in (-1, 1)
            )
            assert least - half_a_digit(ratio) <= number(ratio) <= most + half_a_digit(ratio), row
            n_ratios += 1
    assert n_ratios > 30


# The rows of the benchmarks that README's table of speeds repeats, by the start of a README row.
SPEEDS = {
    "grid search, 12 settings": ["linear head: times faster than scikeras"],
    "the same with": ["hidden_units=(128,), 5 epochs: times faster than scikeras"],
    "an epoch of the last": ["MobileNetV2, last three layers: an epoch, times faster than Keras"],
    "ten such epochs": [
        f"MobileNetV2, last three layers: 10 epochs, {what}, times faster than Keras"
        for what in ("nothing stored", "store warm")
    ],
    "features of ResNet50": [
        ("extraction, tensorflow", "### resnet50, 128 images"),
        ("extraction, openvino", "### resnet50, 128 images"),
        ("extraction, openvino bfloat16", "### resnet50, 128 images"),
    ],
}


def speed(source):
    if isinstance(source, str):
        (row,) = [row for row in claims(read(BENCHMARKS)) if row["claim"] == source]
        return number(row["measured"])
    row, below = source
    return measured(BENCHMARKS, row, column="times Keras", below=below)


def test_the_readme_repeats_measured_speeds():
    (table,) = tables(part(README, "## How fast"))
    assert len(table) == len(SPEEDS)
    for what, figures in map(dict.values, table):
        (sources,) = [those for start, those in SPEEDS.items() if what.startswith(start)]
        for shown, source in zip(figures.split("; "), sources, strict=True):
            assert agrees(shown, speed(source)), (what, shown, speed(source))


def test_the_design_quotes_the_reading_times_of_the_benchmarks():
    sqlite, ours = (
        [measured(BENCHMARKS, f"{name}, {n} at a time", column="CPU µs, median") for n in (1, 1000)]
        for name in ("SQLite", "disk store")
    )
    pattern = r"SQLite takes (\d+) to (\d+) microseconds [^.]*, and (\d+) to (\d+) here with one"
    least, most, our_least, our_most = map(float, said("docs/explanation/design.md", pattern))
    assert least - 0.5 <= min(sqlite) <= max(sqlite) <= most + 0.5
    assert our_least - 0.5 <= min(ours) <= max(ours) <= our_most + 0.5


# Accuracies.


def accuracy(images, backbone, column="accuracy"):
    return measured(README, images, backbone, column=column, below="## How good")


def test_the_results_page_repeats_the_accuracies_of_the_readme():
    check_said(
        RESULTS,
        r"has (0\.\d+) with the best of thirteen penalties, .* and (0\.\d+) with the default",
        accuracy("animals35", "mobilenet_v2", "its accuracy"),
        accuracy("animals35", "mobilenet_v2"),
    )
    check_said(
        RESULTS, r"at 160 the test accuracy is (0\.\d+)", accuracy("animals35", "mobilenet_v2")
    )
    valid, test = (
        measured(RESULTS, "default", column=column, below="## Ten sports")
        for column in ("valid", "test")
    )
    assert accuracy("sports10", "mobilenet_v2") == pytest.approx((valid + test) / 2)


def test_the_text_of_the_results_page_repeats_its_tables():
    cells = measured(
        RESULTS, "fine-tuned", "3,200", column="test", below="## Four kinds of white blood cells"
    )
    check_said(RESULTS, r"for the one that has (0\.\d+)", cells)
    check_said(RESULTS, r"so (0\.\d+) is not from an untouched", cells)
    stack = measured(RESULTS, "stacked logistic regressions", column="accuracy")
    check_said(RESULTS, r"so (0\.\d+) is not a fair score", stack)
    scratch = next(tables(part(RESULTS, "## Networks from nothing")))
    scores = {row["network"]: number(row["test accuracy"]) for row in scratch}
    base, augmented = scores["base: two blocks of two convolutions"], scores["base, augmented"]
    check_said(RESULTS, r"varied images \(([\d.]+) points above", 100 * (augmented - base))
    tiny = measured(RESULTS, "cifar10, 300 a class", "tiny", column="default")
    check_said(RESULTS, r"`tiny`, frozen, has (0\.\d+) after 240 images", tiny)


def test_a_search_without_stored_features_computes_each_image_for_each_head():
    column, below = "images through a network", "## A search over heads"
    once = measured(RESULTS, "features, each image once a network", column=column, below=below)
    again = "the same search without stored features, from one trial a network"
    (n_heads,) = said(RESULTS, r"\| (\d+) heads on stored features")
    assert measured(RESULTS, again, column=column, below=below) == once / 2 * int(n_heads)


def test_accuracies_of_the_defaults_agree_with_the_text():
    assert "The default is within a point of the best everywhere" in read(RESULTS)
    (table,) = tables(part(RESULTS, "## The defaults"))
    assert len(table) == 8
    for row in table:
        default, best, tuned = (number(row[name]) for name in ("default", "best", "fine-tuned"))
        assert default >= round(best - 0.01, 3)
        assert tuned > round(default - 0.01, 3)


def test_the_page_about_scaling_has_the_tables_of_the_simulation(monkeypatch):
    from transferclf.features.extraction import BATCH_SIZE
    from transferclf.features.parallel import TASKS_PER_ROUND, UNITS_AT_ONCE

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    model = importlib.import_module("scaling_model")
    assert model.TASK == UNITS_AT_ONCE * BATCH_SIZE
    check_said(SCALING, r"after every ([\d,]+) images of a worker", TASKS_PER_ROUND * model.TASK)
    for printed in (model.costs_table(), *model.tables().split("\n\n")):
        assert f"\n\n{printed}\n\n" in read(SCALING)
    (seconds,) = {model.simulate(model.SETUPS[2], model.MEASURED, seed).seconds for seed in (0, 0)}
    perfect = model.SETUPS[2].images * (model.MEASURED.decode + model.MEASURED.network) / 64
    assert perfect < seconds < 1.6 * perfect


# The bundled backbone.


def test_the_page_of_tiny_repeats_the_speeds_of_the_benchmarks():
    (ours,) = tables(part(TINY, "## How fast"))
    (heading,) = re.findall(r"^## The bundled network beside .*$", read(BENCHMARKS), re.MULTILINE)
    assert ours == next(tables(part(BENCHMARKS, heading)))


def test_the_page_of_tiny_repeats_the_accuracies_of_the_readme():
    (ours,) = tables(part(TINY, "## Beside the same network from nothing"))
    assert len(ours) == 6
    for row in ours:
        assert number(row["frozen"]) == accuracy(row["images"], "tiny")


def test_the_page_of_tiny_repeats_the_probes_of_its_tools():
    (ours,) = tables(part(TINY, "## How good"))
    probes = {
        row["task"].split(",")[0]: number(row["accuracy"])
        for table in tables(read(PRETRAINING))
        for row in table
        if "best C" in row
    }
    assert {row["images"].split(",")[0]: number(row["tiny"]) for row in ours} == probes


def test_pages_describe_tiny_correctly():
    from transferclf import get_backbone
    from transferclf.backbones import tiny

    size, parameters = tiny.WEIGHTS_PATH.stat().st_size, get_backbone("tiny").parameters
    check_said(README, r"network of ([\d.]+) MB", size / 1e6)
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


def test_pages_count_the_values_of_l2_correctly(monkeypatch):
    from transferclf.training.regularization import CANDIDATES

    pattern = r"among (\w+) values from ([\d.e-]+) to ([\d.e-]+) by"
    many, least, most = said("docs/explanation/design.md", pattern)
    assert (NUMBERS[many], float(least), float(most)) == (
        len(CANDIDATES), min(CANDIDATES), max(CANDIDATES)
    )  # fmt: skip
    tried = runpy.run_path(str(ROOT / "benchmarks/accuracy.py"))["L2_VALUES"]
    for page, pattern in [(README, r"best of (\w+) `l2`"), (RESULTS, r"the best of (\w+) `l2`")]:
        assert NUMBERS[said(page, pattern)[0]] == len(tried)
    best = [number(row["best l2"]) for row in next(tables(part(README, "## How good")))]
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
