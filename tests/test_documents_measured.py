"""Measured figures on pages are those of one file, `benchmarks/results/figures.json`.

`benchmarks/figures.py` writes the file. It has the cells of each measured table, the command that
measured it, and the pages where it stands.
"""

import datetime
import importlib
import json
import re
from functools import cache
from statistics import mean

import pytest
from page_helpers import (
    BENCHMARKS,
    DESIGN,
    EXPECTATIONS,
    FINE_TUNING,
    LANDING,
    PAGES,
    PRETRAINING,
    README,
    RESULTS,
    ROOT,
    START,
    TINY,
    agrees,
    check_said,
    figure,
    figures_module,
    half_a_digit,
    matches,
    number,
    read,
    records,
    rows_of,
    said,
    tables,
)

SCALING = "docs/tutorials/scaling_out.md"

# --- tables

# Tables with many figures that were not measured here, by page and first titles.
NOT_MEASURED = {
    (README, "task"): "test_the_three_figures_are_those_of_their_tables",
    (LANDING, "three figures"): "test_the_three_figures_are_those_of_their_tables",
    (
        START,
        "1,864 photographs of 35 kinds of animals, two cores",
    ): "test_the_start_page_repeats_the_figures_of_fine_tuning",
    (FINE_TUNING, "parameter"): "lists default values",
    ("docs/tutorials/choosing_a_backbone.md", "images"): "repeats figures, which a test compares",
    ("docs/tutorials/choosing_a_backbone.md", "network"): "repeats figures, which a test compares",
    (TINY, "property"): "compared with the package in test_documents_figures.py",
    ("docs/how_to/backbones.md", "name"): "facts that the authors of the networks publish",
    ("docs/how_to/command_line.md", "exit code"): "lists exit codes",
    ("CONTRIBUTING.md", "variable"): "lists settings",
    ("docs/coming_from/keras.md", "task"): "repeats ratios; tests/test_coming_from.py",
    ("docs/coming_from/scikeras.md", "head"): "repeats a search; tests/test_coming_from.py",
    ("docs/how_to/backbones.md", "class"): "lists sizes of inputs",
    ("docs/how_to/exporting.md", "suffix"): "lists formats",
}


def looks_measured(table):
    """Return whether most cells beside the first column are figures."""
    cells = [cell for row in table.rows for cell in row[1:] if cell]
    return bool(cells) and 2 * sum(bool(re.match(r"[-+≤≥<>]? ?\d", it)) for it in cells) > len(
        cells
    )


@pytest.mark.parametrize("name", records())
def test_a_recorded_table_is_the_same_on_its_pages(name):
    record = records()[name]
    table = figures_module().table_of(record)
    missing = [page for page in record["pages"] if table not in tables(read(page))]
    assert missing == [], (
        f"{name!r} is another table there. After a measurement: python benchmarks/figures.py run. "
        "After a table was moved: python benchmarks/figures.py pages"
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_measured_table_is_recorded(page):
    known = [figures_module().table_of(it) for it in records().values() if page in it["pages"]]
    unknown = [
        table.columns
        for table in tables(read(page))
        if looks_measured(table)
        and table not in known
        and (page, table.columns[0]) not in NOT_MEASURED
    ]
    assert unknown == [], "see python benchmarks/figures.py --help"


def test_tables_that_were_not_measured_are_there():
    there = {(page, table.columns[0]) for page in PAGES for table in tables(read(page))}
    assert {*NOT_MEASURED} <= there


@pytest.mark.parametrize("name", records())
def test_a_record_says_how_it_was_measured(name):
    record = records()[name]
    assert [*record] == ["command", "date", "machine", "pages", "columns", "rows"]
    assert datetime.date.fromisoformat(record["date"])
    assert record["machine"]
    scripts = re.findall(r"\bpython (\S+\.py)", record["command"])
    assert scripts or record["command"].startswith("by hand")
    assert all((ROOT / script).is_file() for script in scripts)
    assert {len(row) for row in record["rows"]} == {len(record["columns"])}


def test_every_table_of_the_benchmarks_is_recorded():
    """`run.py` records them, in the order of the page."""
    ours = [it for it in records().values() if BENCHMARKS in it["pages"]]
    assert len(ours) == len(tables(read(BENCHMARKS))) > 40


# --- claims and ratios of the benchmarks


def claims():
    """Return the rows of all tables of claims, except those repeated below the headline."""
    return [
        row
        for name, record in records().items()
        if BENCHMARKS in record["pages"] and name != "claims that do not hold"
        for row in rows_of(name)
        if "result" in row
    ]


def test_the_claims_of_the_benchmarks_are_counted_right():
    results = [row["result"] for row in claims()]
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
    missed = [row for row in claims() if row["result"] == "does not hold"]
    assert rows_of("claims that do not hold") == missed


def test_a_claim_holds_if_its_figure_keeps_the_promise():
    for row in claims():
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
    for name, record in records().items():
        titles = record["columns"]
        if titles[-1] != "ratio of CPU":
            continue
        first = rows_of(name)[0][titles[1]]
        for row in rows_of(name):
            seconds, ratio = row[titles[1]], row[titles[-1]]
            least, most = (
                (number(seconds) + sign * half_a_digit(seconds))
                / (number(first) - sign * half_a_digit(first))
                for sign in (-1, 1)
            )
            assert least - half_a_digit(ratio) <= number(ratio) <= most + half_a_digit(ratio), row
            n_ratios += 1
    assert n_ratios > 30


def claim(what):
    (row,) = [row for row in claims() if row["claim"] == what]
    return number(row["measured"])


def test_the_first_table_of_engines_is_that_of_mobilenet():
    (part,) = re.findall(r"^### mobilenet_v2, 256 .*?\n(?=###)", read(BENCHMARKS), re.M | re.S)
    assert tables(part) == [figures_module().table_of(records()["forward"])]


@pytest.mark.parametrize("page", [README, LANDING])
def test_the_three_figures_are_those_of_their_tables(page):
    whats = ("TransferClassifier", "scikeras, twelve times one setting")
    search = [figure("search", what, column="CPU s, median") for what in whats]
    accuracies = [
        mean(number(row[column]) for row in rows_of("fine-tuning"))
        for column in ("all layers", "fastai")
    ]
    training = [sum(seconds(column)) for column in ("all layers", "fastai")]
    (table,) = [it for it in tables(read(page)) if "the other" in it.columns]
    first = table.columns.index("transferclf")
    for row, exact in zip(table.rows, (search, accuracies, training), strict=True):
        shown = row[first : first + 2]
        assert all(map(agrees, shown, exact)), (row, exact)


def test_the_first_pages_say_what_was_compared(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    search = importlib.import_module("search")
    found = map(int, said(README, r"grid search, (\d+) settings and (\d+) folds"))
    assert [*found] == [len(search.settings("linear")), search.FOLDS]
    n_heads = len(search.settings("linear")) * search.FOLDS
    assert said(LANDING, r"a grid search over (\d+) heads") == (str(n_heads),)
    assert len(rows_of("fine-tuning")) == 5
    for page in (README, LANDING):
        assert len(matches(page, r"five sets")) == 1
    for page in (README, FINE_TUNING):
        assert "fine_tune(5)" in read(page)


def test_the_start_page_repeats_the_figures_of_fine_tuning():
    animals = [
        row[column]
        for name in ("fine-tuning, tiny", "fine-tuning")
        for row in rows_of(name)
        for column in ("frozen", "all layers")
        if row["images"].startswith("animals35")
    ]
    (table,) = [it for it in tables(read(START)) if it.columns[-1] == "accuracy"]
    assert [f"{accuracy}, {seconds} s" for _, seconds, accuracy in table.rows] == animals


def test_the_design_quotes_the_reading_times_of_the_benchmarks():
    sqlite, ours = (
        [figure("store", f"{name}, {n} at a time", column="CPU µs, median") for n in (1, 1000)]
        for name in ("SQLite", "disk store")
    )
    pattern = r"SQLite takes (\d+) to (\d+) microseconds [^.]*, and (\d+) to (\d+) here with one"
    least, most, our_least, our_most = map(float, said(DESIGN, pattern))
    assert least - 0.5 <= min(sqlite) <= max(sqlite) <= most + 0.5
    assert our_least - 0.5 <= min(ours) <= max(ours) <= our_most + 0.5


# --- results of fine-tuning

COLUMNS = {"frozen": "probe", "all layers": "ours", "fastai": "fastai"}
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
    """Return accuracies and CPU seconds, one for each seed."""
    found = [
        it
        for it in runs()
        if (it["backbone"], it["set"], it["method"]) == (backbone, images, method)
    ]
    assert len({it["seed"] for it in found}) == len(found)
    return [it["accuracy"] for it in found], [it["cpu"] for it in found]


@pytest.mark.parametrize("name", TUNED)
def test_tables_of_fine_tuning_are_means_of_the_measurements(name):
    for row in rows_of(name):
        assert {"frozen", "all layers"} <= row.keys()
        for column in COLUMNS.keys() & row.keys():
            accuracies, seconds = of_seeds(
                TUNED[name], row["images"].split(",")[0], COLUMNS[column]
            )
            assert len(accuracies) == 3
            shown = re.fullmatch(r"(0\.\d{3}), (\d+) s", row[column])
            assert agrees(shown[1], mean(accuracies)), row
            assert agrees(shown[2], mean(seconds)), row


def gains(name):
    """Return by how many points fine-tuning is above the frozen network, by set."""
    return {
        row["images"]: 100 * (number(row["all layers"]) - number(row["frozen"]))
        for row in rows_of(name)
    }


def seconds(column):
    """Return the CPU seconds of a column of the first table of fine-tuning."""
    return [float(row[column].split(", ")[1].split()[0]) for row in rows_of("fine-tuning")]


def extreme_gains():
    """Return the least and largest gain under a microscope, and the largest of photographs."""
    cells, photographs = [], []
    for name in TUNED:
        for images, gain in gains(name).items():
            if images.startswith("blood"):
                cells.append(gain)
            elif not images.startswith("cifar"):
                photographs.append(gain)
    return [min(cells), max(cells), max(photographs)]


def test_fine_tuning_falls_below_no_frozen_head():
    assert "No network falls below its frozen head on any set" in read(FINE_TUNING)
    assert min(gain for name in TUNED for gain in gains(name).values()) >= 0


# --- the tutorials

CHOOSING = "docs/tutorials/choosing_a_backbone.md"


def test_the_choice_of_a_backbone_repeats_the_measured_networks():
    ours, speeds = tables(read(CHOOSING))[-2:]
    columns = {"EfficientNet-Lite0": "fine-tuning", "MobileNetV2": "fine-tuning, MobileNetV2"}
    columns |= {"tiny": "fine-tuning, tiny"}
    repeated = [dict(zip(ours.columns, row, strict=True)) for row in ours.rows]
    for column in ("images", "training images"):
        assert [row[column] for row in repeated] == [row[column] for row in rows_of("fine-tuning")]
    for network, name in columns.items():
        assert [row[network] for row in repeated] == [row["frozen"] for row in rows_of(name)]
    for network, *shown in speeds.rows:
        name = {"mobilenet_v2": "forward", "resnet50": "forward 2", "efficientnet_b0": "forward 3"}
        for cell, engine in zip(shown, ("openvino", "openvino bfloat16"), strict=True):
            column = "images per CPU s, median"
            assert agrees(cell, figure(name[network], f"extraction, {engine}", column=column))


# --- sentences


def accuracy(images, backbone, column="accuracy"):
    return figure("accuracy", images, backbone, column=column)


def tuned(images, column, name="fine-tuning"):
    first, *_ = [row for row in rows_of(name) if row["images"].split(",")[0] == images]
    return number(first[column])


def scratch(network):
    return figure("scratch networks, full", network, column="test accuracy")


def standard_error(share, n_images):
    """Return one standard error of a share of images, in points."""
    return 100 * (share * (1 - share) / n_images) ** 0.5


def chosen():
    """Return the accuracy on animals35 of the layers that "auto" chose, of seed 0."""
    return of_seeds("efficientnet_lite0", "animals35", "ours, auto")[0][0]


def best_choice():
    methods = ("probe", "ours, last block", "ours")
    return max(of_seeds("efficientnet_lite0", "animals35", method)[0][0] for method in methods)


N_CELLS = 1200  # test images of blood_cells4


def cells_right():
    """Return the share of right images, as the recipe has it for blood_cells4."""
    shown = figure("blood cells, recipe", "fine-tuned, defaults", column="test")
    return round(shown * N_CELLS) / N_CELLS


# Sentences with figures of a record: the page, a pattern with a group for each figure, the figures.
SENTENCES = [
    (
        EXPECTATIONS,
        r"for (\d+) images by MobileNetV2 at 224 pixels, and for (\d+) by `tiny` at 96",
        lambda: [
            figure("forward", "extraction, openvino", column="images per CPU s, median"),
            figure("tiny_speed", "openvino", "extraction", column="tiny, images per CPU s"),
        ],
    ),
    (
        EXPECTATIONS,
        r"photographs, `tiny` has (0\.\d+) and `efficientnet_lite0` (0\.\d+)",
        lambda: [accuracy("animals35", name) for name in ("tiny", "efficientnet_lite0")],
    ),
    (
        EXPECTATIONS,
        r"blood cells gain (\d+) to (\d+) points",
        lambda: extreme_gains()[:2],
    ),
    (
        EXPECTATIONS,
        r"At an accuracy of 0\.9, its standard error is (\d) points",
        lambda: [standard_error(0.9, 100)],
    ),
    (
        RESULTS,
        r"from (0\.\d+) to (0\.\d+) on blood_cells4, and from (0\.\d+) to (0\.\d+) on animals35",
        lambda: [
            tuned(images, column)
            for images in ("blood_cells4", "animals35")
            for column in ("frozen", "all layers")
        ],
    ),
    (
        FINE_TUNING,
        r"means over the sets are (\d+), (\d+) and (\d+) points above it",
        lambda: [mean(gains(name).values()) for name in TUNED],
    ),
    (
        FINE_TUNING,
        r"cells under a microscope gain (\d+) to (\d+) points, photographs up to (\d+)\.",
        extreme_gains,
    ),
    (
        FINE_TUNING,
        r"On the smallest set we take ([\d.]+) times as much",
        lambda: [
            mean(of_seeds("efficientnet_lite0", "blood_smear", "ours")[1])
            / mean(of_seeds("efficientnet_lite0", "blood_smear", "fastai")[1])
        ],
    ),
    (
        FINE_TUNING,
        r"three of blood_smear are (0\.\d+), (0\.\d+) and (0\.\d+), of 87 test images",
        lambda: of_seeds("efficientnet_lite0", "blood_smear", "ours")[0],
    ),
    (
        FINE_TUNING,
        r"and ([\d.]+) points below it on animals35 \((0\.\d+) and (0\.\d+), of 330 images\)",
        lambda: [100 * (best_choice() - chosen()), chosen(), best_choice()],
    ),
    (
        RESULTS,
        r"One image is ([\d.]+) points, and one standard error is about ([\d.]+) points",
        lambda: [100 / 330, standard_error(figure("animals", "frozen", column="accuracy"), 330)],
    ),
    (
        RESULTS,
        r"last layers adds little\. One image is (\d) points",
        lambda: [100 / 50],
    ),
    (
        RESULTS,
        r"One standard error of 2,500 test images is ([\d.]+) points",
        lambda: [standard_error(scratch("base, augmented"), 2500)],
    ),
    (
        RESULTS,
        r"make (\d+) of its (\d+) errors on `test`",
        lambda: [74 + 34 + 14, N_CELLS * (1 - cells_right())],
    ),
    (
        RESULTS,
        r"Without this photograph, accuracy would be (0\.\d+)",
        lambda: [N_CELLS * cells_right() / (N_CELLS - 74)],
    ),
    (
        RESULTS,
        r"Of the copies of the other 66 photographs, (0\.\d+) are right",
        lambda: [(N_CELLS * cells_right() - 1 - 2) / (N_CELLS - 74 - 35 - 16)],
    ),
    (
        RESULTS,
        r"seem to be copies of the same photograph; they cost (\d) points",
        lambda: [100 * figure("blood cells, confusion", "monocyte", column="neutrophil") / N_CELLS],
    ),
    (
        RESULTS,
        r"confusion matrix, with (0\.\d+) of the images right",
        lambda: [
            sum(number(row[row["`test`"]]) for row in rows_of("blood cells, confusion")) / N_CELLS
        ],
    ),
    (
        CHOOSING,
        r"gains (\d+) points on 35 kinds of animals",
        lambda: [
            100 * (tuned("animals35", "frozen") - tuned("animals35", "frozen", "fine-tuning, tiny"))
        ],
    ),
    (
        CHOOSING,
        r"MobileNetV2 has (0\.\d+) at 160 pixels and (0\.\d+) at 224",
        lambda: [
            accuracy("animals35", "mobilenet_v2"),
            figure("animals", "frozen", column="accuracy"),
        ],
    ),
    (
        "docs/tutorials/first_fine_tuning.md",
        r"pays: (\d+) to (\d+) points on two sets",
        lambda: extreme_gains()[:2],
    ),
    (
        "docs/how_to/crop_stretch_pad.md",
        r"(0\.\d+) with the crop and (0\.\d+) stretched",
        lambda: [
            figure("animals", "frozen", column="accuracy"),
            figure("animals", "frozen, stretched instead of cropped", column="accuracy"),
        ],
    ),
    (
        "docs/tutorials/unknowns.md",
        r"about (\d+) held-out known images, so that one standard error of the shares is ([\d.]+) "
        r"to ([\d.]+) points",
        lambda: [470, standard_error(0.99, 470), standard_error(0.9, 470)],
    ),
    (
        RESULTS,
        r"has (0\.\d+) with the best of thirteen penalties, .* and (0\.\d+) with the default",
        lambda: [
            accuracy("animals35", "mobilenet_v2", "its accuracy"),
            accuracy("animals35", "mobilenet_v2"),
        ],
    ),
    (
        RESULTS,
        r"at 160 the test accuracy is (0\.\d+)",
        lambda: [accuracy("animals35", "mobilenet_v2")],
    ),
    (
        RESULTS,
        r"for the one that has (0\.\d+)",
        lambda: [figure("blood cells, all images", "fine-tuned", column="test")],
    ),
    (
        RESULTS,
        r"so (0\.\d+) is not from an untouched",
        lambda: [figure("blood cells, all images", "fine-tuned", column="test")],
    ),
    (
        RESULTS,
        r"So (0\.\d+) is beyond this test set",
        lambda: [figure("blood cells, recipe", "fine-tuned, defaults", column="report")],
    ),
    (
        RESULTS,
        r"so (0\.\d+) is not a fair score",
        lambda: [figure("stacking", "stacked logistic regressions", column="accuracy")],
    ),
    (
        RESULTS,
        r"varied images \(([\d.]+) points above",
        lambda: [
            100 * (scratch("base, augmented") - scratch("base: two blocks of two convolutions"))
        ],
    ),
    (
        RESULTS,
        r"`tiny`, frozen, has (0\.\d+) after 240 images",
        lambda: [figure("defaults", "cifar10, 300 a class", "tiny", column="default")],
    ),
    (
        "docs/how_to/backbones.md",
        r"instead of (0\.\d+) of the test images of animals35 were right, and (0\.\d+) of sports10",
        lambda: [
            accuracy("animals35", "efficientnet_lite0"),
            accuracy("sports10", "efficientnet_lite0"),
        ],
    ),
    (
        "docs/how_to/backbones.md",
        r"nothing else set: (0\.\d+) on sports10 and (0\.\d+) on animals35",
        lambda: [
            accuracy("sports10", "efficientnet_lite0"),
            accuracy("animals35", "efficientnet_lite0"),
        ],
    ),
]


@pytest.mark.parametrize(("page", "pattern", "exact"), SENTENCES, ids=range(len(SENTENCES)))
def test_a_sentence_has_the_figures_of_its_record(page, pattern, exact):
    check_said(page, pattern, *exact())


def test_fine_tuning_takes_half_of_the_seconds_of_fastai():
    assert "Over the five sets we take half of fastai's CPU seconds" in read(FINE_TUNING)
    assert sum(seconds("all layers")) / sum(seconds("fastai")) == pytest.approx(0.5, abs=0.05)


def test_sports_are_measured_alike_by_the_example_and_the_benchmark():
    valid, test = (figure("sports", "default", column=column) for column in ("valid", "test"))
    assert accuracy("sports10", "mobilenet_v2") == pytest.approx((valid + test) / 2)


def test_a_search_without_stored_features_computes_each_image_for_each_head():
    column = "images through a network"
    once = figure("head search, cost", "features, each image once a network", column=column)
    again = "the same search without stored features, from one trial a network"
    (n_heads,) = said(RESULTS, r"\| (\d+) heads on stored features")
    assert figure("head search, cost", again, column=column) == once / 2 * int(n_heads)


def test_accuracies_of_the_defaults_agree_with_the_text():
    assert "The default is within a point of the best everywhere" in read(RESULTS)
    rows = rows_of("defaults")
    assert len(rows) == 8
    for row in rows:
        default, best, fine_tuned = (
            number(row[name]) for name in ("default", "best", "fine-tuned")
        )
        assert default >= round(best - 0.01, 3)
        assert fine_tuned > round(default - 0.01, 3)


def test_the_records_of_scaling_are_those_of_the_simulation(monkeypatch):
    from transferclf.features.extraction import BATCH_SIZE
    from transferclf.features.parallel import TASKS_PER_ROUND, UNITS_AT_ONCE

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    model = importlib.import_module("scaling_model")
    assert model.TASK == UNITS_AT_ONCE * BATCH_SIZE
    check_said(SCALING, r"after every ([\d,]+) images of a worker", TASKS_PER_ROUND * model.TASK)
    printed = tables("\n\n".join([model.costs_table(), model.tables()]))
    names = ("scaling_model", "scaling_model 2", "scaling_model 3")
    assert printed == [figures_module().table_of(records()[name]) for name in names]
    (wall,) = {model.simulate(model.SETUPS[2], model.MEASURED, seed).seconds for seed in (0, 0)}
    perfect = model.SETUPS[2].images * (model.MEASURED.decode + model.MEASURED.network) / 64
    assert perfect < wall < 1.6 * perfect


# --- the bundled backbone


def test_tiny_is_as_accurate_beside_itself_from_nothing():
    rows = rows_of("tiny from scratch")
    assert len(rows) == 6
    for row in rows:
        assert number(row["frozen"]) == accuracy(row["images"], "tiny")


def test_the_page_of_tiny_has_the_probes_of_its_tools():
    probes = {
        row["task"].split(",")[0]: number(row["accuracy"]) for row in rows_of("pretraining, probes")
    }
    ours = {row["images"].split(",")[0]: number(row["tiny"]) for row in rows_of("tiny, probes")}
    assert ours == probes


# --- figures that are in no record

LOOKS_MEASURED = re.compile(
    r"(?<![\w.])0\.\d{3}(?!\d)"  # an accuracy
    r"|\b\d[\d.,]*\s+times\s+(?:as|faster|less|the)\b"
    r"|\b\d[\d.,]*\s+CPU\s+s(?:econds)?\b"
    r"|\b\d[\d.]*\s+points?\b"
)

# Sentences whose figures are in no record: the page, a part of the sentence, and the reason. Their
# page says how they were measured, or where they were published.
PUBLISHED, BY_HAND = "published by others", "measured once by hand, as the page says"
ALONE = [
    (BENCHMARKS, "took 2.72 CPU s on TensorFlow", "a run after that of the table, by hand"),
    (DESIGN, "the cosine is at least 0.999", "the bound of tests/test_extraction_fidelity.py"),
    (DESIGN, "a cosine of 0.998 to a plain resize", "the bound of the test that it names"),
    (DESIGN, "in float32 stays above 0.999", "the bound of tests/test_engines_forward.py"),
    (DESIGN, "then took 0.61 times the CPU time", BY_HAND),
    (RESULTS, "accuracies of 0.844 (frozen), 0.871 and 0.864", PUBLISHED),
    (RESULTS, "(0.912, against 0.907 at 160)", BY_HAND),
    (RESULTS, "has an accuracy of 0.970 on the images of `valid`", "printed by its example"),
    (RESULTS, "A first version had 0.930", "of an earlier version of the example"),
    (RESULTS, "416 CPU seconds", "printed by benchmarks/blood_cells.py"),
    (RESULTS, "0.312 with the sizes of the first table", BY_HAND),
    (RESULTS, "(0.250 on `test`)", BY_HAND),
    (RESULTS, "had 0.958 for a recipe that had 0.690 on `test`", BY_HAND),
    (RESULTS, "rest had 0.847", BY_HAND),
    (RESULTS, "after we saw the 0.690", BY_HAND),
    (
        RESULTS,
        "had 0.692, augmented 0.652, augmented and whitened 0.660, and deeper 0.627",
        BY_HAND,
    ),
    (TINY, "accuracies are 0.860, 0.685, 0.707, 0.523 and 0.978", BY_HAND),
    (TINY, "had 0.690 on sports10, and took 13 times as long", BY_HAND),
    (
        TINY,
        "was 1.38 to 1.45 times as fast by ONNX",
        "on another processor than that of the record",
    ),
    (TINY, "was 1.85 to 1.96 times as fast", "on another processor than that of the record"),
    (TINY, "fell to 0.682 and digits to 0.987", BY_HAND),
    (TINY, "are 0.910, 0.694, 0.720, 0.605 and 0.993", BY_HAND),
    ("docs/how_to/backbones.md", "`crop_fraction=0.875`", "a setting"),
    ("docs/how_to/backbones.md", "With that crop 0.945", BY_HAND),
    ("docs/how_to/backbones.md", "is 0.900 with the crop and 0.875 without", BY_HAND),
    (SCALING, "took 4.17 seconds, 1.87 times as fast", BY_HAND),
    (
        "docs/tutorials/folder_to_model.md",
        "One of 60 photographs is 1.7 points",
        "a quotient: 100 / 60",
    ),
    ("docs/tutorials/unknowns.md", "within 0.001", BY_HAND),
    ("docs/tutorials/unknowns.md", "up to 0.011 worse, and of cifar10 up to 0.013 better", BY_HAND),
]


def prose(page):
    """Return a page with blanks in the place of its blocks of code and its tables."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r"^(```+).*?^\1\s*$", blank, read(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^\|.*$", blank, text, flags=re.MULTILINE)


def spans(page, patterns):
    return [match.span() for pattern in patterns for match in matches(page, pattern)]


def cells(page):
    """Return all figures of the records that stand on a page."""
    return {
        shown
        for record in records().values()
        if page in record["pages"]
        for row in record["rows"]
        for cell in row
        for shown in re.findall(r"\d[\d.,]*\d|\d", cell)
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_figure_in_a_sentence_is_in_a_record(page):
    patterns = [pattern for where, pattern, _ in SENTENCES if where == page]
    patterns += [re.escape(part).replace(r"\ ", " ") for where, part, _ in ALONE if where == page]
    known, recorded = spans(page, patterns), cells(page)
    unknown = [
        prose(page)[max(0, match.start() - 50) : match.end() + 20]
        for match in LOOKS_MEASURED.finditer(prose(page))
        if not any(start <= match.start() < end for start, end in known)
        and (not match[0].startswith("0.") or match[0] not in recorded)
    ]
    assert unknown == [], "compare it in SENTENCES, or give a reason in ALONE"


@pytest.mark.parametrize(("page", "part", "reason"), ALONE, ids=range(len(ALONE)))
def test_a_sentence_without_a_record_is_there(page, part, reason):
    assert len(matches(page, re.escape(part).replace(r"\ ", " "))) == 1
    assert reason


# --- the tests fail only if they tell figures apart


def test_looks_measured_tells_tables_apart():
    measured, words = tables(
        "| a | b |\n|---|---|\n| x | 0.9, 3 s |\n| y | |\n\n"
        "| a | b |\n|---|---|\n| 1 | 3 x 3 |\n| 2 | one |\n| 3 | two |\n"
    )
    assert looks_measured(measured)
    assert not looks_measured(words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it has 0.912 there", ["0.912"]),
        ("a rate of 0.9 and 1e-3", []),
        ("1.7 times as much", ["1.7 times as"]),
        ("416 CPU\nseconds", ["416 CPU\nseconds"]),
        ("two are 1.3 points apart", ["1.3 points"]),
        ("version 0.123.4 of v0.123", ["0.123"]),
    ],
)
def test_figures_that_look_measured_are_found(text, found):
    assert LOOKS_MEASURED.findall(text) == found


def test_pages_of_tools_are_compared_too():
    assert PRETRAINING in PAGES
