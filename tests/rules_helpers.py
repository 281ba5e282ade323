"""The records of the rules of fine-tuning, and the sentences of the page about them."""

import functools
import importlib
import json
import sys
from statistics import mean

import numpy as np
from page_helpers import FINE_TUNING, ROOT, number, read, rows_of

GAINS, RULES, LAYERS = "fine-tuning, rules", "fine-tuning, rules 2", "fine-tuning, rules 3"
LOWEST = "the lowest loss but for the mean"
WHOLE, BOTH = 2, 3  # the places of all layers and of the mean in the options for layers


@functools.cache
def rules():
    """Return `benchmarks/fine_tuning_rules.py`."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("fine_tuning_rules")
    finally:
        sys.path.remove(folder)


@functools.cache
def rules_records():
    lines = read("benchmarks/results/fine_tuning_rules.jsonl").splitlines()
    return [json.loads(line) for line in lines]


@functools.cache
def with_lines():
    """Return the records that have the last block and the mean, and the options of each."""
    return [
        (record, rules().layers_of(record))
        for record in rules_records()
        if record.keys() >= {*rules().LINES}
    ]


def layer_rule(rule, figure, group="few images"):
    """Return a figure of a rule for the layers."""
    (row,) = [row for row in rows_of(LAYERS) if row["trained layers"] == rule]
    (cell,) = [row[column] for column in row if column.startswith(f"{group}: {figure}")]
    return number(cell)


def means_taken(are_taken):
    """Return by how much means are above all layers, where the rule takes them or does not."""
    return [
        {
            figure: layers[BOTH][figure] - layers[WHOLE][figure]
            for figure in ("accuracy", "log_loss")
        }
        for record, layers in with_lines()
        if (rules().chosen_layers(layers, record) == BOTH) == are_taken
    ]


def of_means(figure, are_taken):
    return mean(each[figure] for each in means_taken(are_taken))


def accuracy_of_the_rule(monkeypatch_limit, errors):
    """Return the mean accuracy of the rule for the layers, with this limit and difference."""
    module = rules()
    accuracies = []
    for record, layers in with_lines():
        frozen, _, whole, _ = (np.mean(each["losses"]) for each in layers)
        place = module.most_layers(layers, module.CLEAR)
        is_little = frozen - whole < monkeypatch_limit * record["guess"]
        if is_little and module.is_close(layers, BOTH, errors):
            place = BOTH
        accuracies.append(layers[place]["accuracy"])
    return mean(accuracies)


# The page, a pattern with a group for each figure, and the figures.
SENTENCES = [
    (
        FINE_TUNING,
        r"lowest loss of a few images loses ([\d.]+) points on average, and ([\d.]+) at worst",
        lambda: [
            100 * (layer_rule("all layers", "accuracy") - layer_rule(LOWEST, "accuracy")),
            layer_rule(LOWEST, "worst"),
        ],
    ),
    (
        FINE_TUNING,
        r"takes the mean in (\d+) of (\d+) trainings\. There it is ([\d.]+) points above all "
        r"layers, and its log loss is ([\d.]+) lower\. In the others it is ([\d.]+) points below",
        lambda: [
            len(means_taken(True)),
            len(with_lines()),
            100 * of_means("accuracy", True),
            -of_means("log_loss", True),
            -100 * of_means("accuracy", False),
        ],
    ),
]
