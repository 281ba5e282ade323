"""Measured tables on pages are those of one file, `benchmarks/results/figures.json`.

`benchmarks/figures.py` writes the file. It has the cells of each measured table, the command that
measured it, and the pages where it stands. `test_documents_sentences.py` compares sentences.
"""

import datetime
import importlib
import re
from statistics import mean

import pytest
from page_helpers import (
    BENCHMARKS,
    CHOOSING,
    DESIGN,
    FINE_TUNING,
    LANDING,
    NEW_SETS,
    OTHER_SETS,
    PAGES,
    PRETRAINING,
    README,
    RESULTS,
    ROOT,
    SCALING,
    START,
    TINY,
    TUNED,
    ablations,
    accuracy,
    agrees,
    check_said,
    figure,
    figures_module,
    gains,
    half_a_digit,
    matches,
    number,
    of_one_seed,
    of_seeds,
    of_three,
    points_above,
    points_below_the_best,
    read,
    records,
    rows_of,
    said,
    sets_of,
    tables,
)

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


def test_looks_measured_tells_tables_apart():
    measured, words = tables(
        "| a | b |\n|---|---|\n| x | 0.9, 3 s |\n| y | |\n\n"
        "| a | b |\n|---|---|\n| 1 | 3 x 3 |\n| 2 | one |\n| 3 | two |\n"
    )
    assert looks_measured(measured)
    assert not looks_measured(words)


def test_pages_of_tools_are_compared_too():
    assert PRETRAINING in PAGES


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


def test_the_first_table_of_engines_is_that_of_mobilenet():
    (part,) = re.findall(r"^### mobilenet_v2, 256 .*?\n(?=###)", read(BENCHMARKS), re.M | re.S)
    assert tables(part) == [figures_module().table_of(records()["forward"])]


def test_the_design_quotes_the_reading_times_of_the_benchmarks():
    sqlite, ours = (
        [figure("store", f"{name}, {n} at a time", column="CPU µs, median") for n in (1, 1000)]
        for name in ("SQLite", "disk store")
    )
    pattern = r"SQLite takes (\d+) to (\d+) microseconds [^.]*, and (\d+) to (\d+) here with one"
    least, most, our_least, our_most = map(float, said(DESIGN, pattern))
    assert least - 0.5 <= min(sqlite) <= max(sqlite) <= most + 0.5
    assert our_least - 0.5 <= min(ours) <= max(ours) <= our_most + 0.5


# --- the first pages


def seconds(column):
    """Return the CPU seconds of a column of the first table of fine-tuning."""
    return [float(row[column].split(", ")[1].split()[0]) for row in rows_of("fine-tuning")]


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


# --- results of fine-tuning

COLUMNS = {"frozen": "probe", "all layers": "ours", "fastai": "fastai"}
CHOICES = {"frozen": "probe", "last block": "ours, last block", "all layers": "ours"}


@pytest.mark.parametrize("name", TUNED)
def test_tables_of_fine_tuning_are_means_of_the_measurements(name):
    for row in rows_of(name):
        assert {"frozen", "all layers"} <= row.keys()
        for column in COLUMNS.keys() & row.keys():
            accuracies, seconds = of_seeds(
                TUNED[name], row["images"].split(",")[0], COLUMNS[column]
            )
            shown = re.fullmatch(r"(0\.\d{3}), (\d+) s", row[column])
            assert agrees(shown[1], mean(accuracies)), row
            assert agrees(shown[2], seconds), row


def test_the_table_of_keras_has_means_of_the_measurements():
    columns = {"Keras' guide": "Keras guide", "all layers by Adam": "plain full fine-tuning"}
    frozen = {row["images"]: row["frozen"].split(", ")[0] for row in rows_of("fine-tuning")}
    rows = rows_of("fine-tuning, Keras")
    assert [row["images"] for row in rows] == list(frozen)
    for row in rows:
        for column, method in columns.items():
            images = row["images"].split(",")[0]
            accuracies, seconds = of_seeds("efficientnet_lite0", images, method)
            shown = re.fullmatch(r"(0\.\d{3}), (\d+) s", row[column])
            assert agrees(shown[1], mean(accuracies)), row
            assert agrees(shown[2], seconds), row
        assert row["Keras' guide"].split(", ")[0] < frozen[row["images"]]
    assert "The guide ends below our frozen head on each set" in read(FINE_TUNING)


def test_the_table_of_choices_has_means_of_the_measurements():
    for row in rows_of("fine-tuning, choices"):
        for column, method in (CHOICES | {'"auto"': "ours, auto"}).items():
            images = row["images"].split(",")[0]
            accuracies, cpu = of_seeds("efficientnet_lite0", images, method)
            accuracy, seconds = row[column].removesuffix(" s").split(", ")
            assert agrees(accuracy, mean(accuracies)), row
            assert agrees(seconds, cpu), row


@pytest.mark.parametrize(("name", "n_sets"), [(NEW_SETS, 10), (OTHER_SETS, 7)])
def test_tables_of_other_images_have_means_of_the_measurements(name, n_sets):
    rows = rows_of(name)
    assert len(rows) == n_sets
    for row in rows:
        for column, method in (CHOICES | {'"auto"': "ours, auto"}).items():
            assert agrees(row[column], of_three(method, row["images"].split(",")[0])), row


@pytest.mark.parametrize(
    ("name", "part", "below"),
    [
        (NEW_SETS, "eight of the ten", {"clothes10", "grocery21"}),
        (OTHER_SETS, "five of the seven", {"bees2", "scenes15"}),
    ],
)
def test_auto_is_within_half_a_point_of_the_best_choice_on_most_sets(name, part, below):
    text = f"within half a point of the best of the three columns before it on {part} sets"
    assert len(matches(FINE_TUNING, text)) == 1
    points = points_below_the_best(sets_of(name))
    assert {images for images, found in points.items() if found > 0.5} == below


def test_the_mean_was_taken_in_most_runs_of_the_sets_where_auto_is_behind():
    assert len(matches(FINE_TUNING, "took the mean of both in five of six runs")) == 1
    pairs = [
        pair
        for images in ("clothes10", "grocery21")
        for pair in zip(
            *(of_seeds("efficientnet_lite0", images, it)[0] for it in ("ours, auto", "ours")),
            strict=True,
        )
    ]
    assert sum(auto != by_hand for auto, by_hand in pairs) == 5


def test_all_layers_are_above_the_frozen_head_on_each_new_set():
    assert len(matches(FINE_TUNING, "All layers are above the frozen head on each set")) == 1
    assert min(points_above("ours", "probe", sets_of(NEW_SETS)).values()) > 0


def test_fastai_is_below_auto_on_each_other_set():
    assert len(matches(FINE_TUNING, 'fastai is below "auto" on each set')) == 1
    for row in rows_of(OTHER_SETS):
        accuracy, _ = of_one_seed(row["images"].split(",")[0], "fastai")
        assert agrees(row["fastai"], accuracy), row
        assert row["fastai"] < row['"auto"']


def test_the_table_of_ablations_has_means_of_the_measurements():
    rows = rows_of("ablation")
    assert len(rows) == 9
    for row in rows:
        change = {"frozen": "probe"}.get(row["change"], row["change"])
        for network in ("tiny", "MobileNetV2", "EfficientNet-Lite0"):
            name = {"EfficientNet-Lite0": "efficientnet_lite0"}.get(network, network)
            points, losses = (
                ablations(name, change, figure) for figure in ("accuracy", "log_loss")
            )
            assert len(points) == 6
            assert row[f"{network}: accuracy, points"] == f"{100 * mean(points):+.1f}"
            assert row[f"{network}: log loss"] == f"{mean(losses):+.3f}"
    text = "Each change but the last makes the log loss of MobileNetV2 and EfficientNet-Lite0 worse"
    assert len(matches(FINE_TUNING, text)) == 1
    worse = [
        min(float(row[f"{network}: log loss"]) for network in ("MobileNetV2", "EfficientNet-Lite0"))
        > 0
        for row in rows
    ]
    assert worse == [True] * 8 + [False]


def test_auto_is_within_half_a_point_of_the_best_choice():
    below = points_below_the_best(sets_of("fine-tuning, choices"))
    assert len(below) == 5
    assert max(below.values()) <= 0.5


def test_the_choice_is_that_of_all_layers_where_the_frozen_network_does_badly():
    text = "On the other sets it has the accuracy of all layers in each of the nine runs"
    assert len(matches(FINE_TUNING, text)) == 1
    for name in ("blood_smear", "blood_cells4", "cifar10"):
        auto, by_hand = (
            of_seeds("efficientnet_lite0", name, method)[0] for method in ("ours, auto", "ours")
        )
        assert auto == by_hand


def test_fine_tuning_falls_below_no_frozen_head():
    assert len(matches(FINE_TUNING, "no network falls below its frozen head")) == 1
    assert min(gain for name in TUNED for gain in gains(name).values()) >= 0


def test_fine_tuning_takes_two_fifths_of_the_seconds_of_fastai():
    assert "Over the five sets we take two fifths of fastai's CPU seconds" in read(FINE_TUNING)
    assert sum(seconds("all layers")) / sum(seconds("fastai")) == pytest.approx(0.4, abs=0.03)


# --- other results


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
        default, best = (number(row[name]) for name in ("default", "best"))
        assert default >= round(best - 0.01, 3)


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
