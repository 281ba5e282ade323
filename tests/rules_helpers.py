"""The records of the rules of fine-tuning, and the sentences of the pages about them."""

import functools
import json
from itertools import product
from statistics import mean

import numpy as np
from page_helpers import FINE_TUNING, number, read, rows_of

from transferclf.training.choosing_cut import CLEAR, CLEAR_OF_MEAN, LITTLE
from transferclf.training.soup import is_near

LOWEST = "the lowest loss of these"
WHOLE, BOTH = 2, 3  # the places of all layers and of the mean of both in a record


def layer_rule(rule, figure):
    """Return a figure of a rule for the layers, over the trainings on few images."""
    (row,) = [row for row in rows_of("fine-tuning, rules 2") if row["trained layers"] == rule]
    (cell,) = [row[column] for column in row if column.startswith(f"few images: {figure}")]
    return number(cell)


@functools.cache
def rules_records():
    lines = read("benchmarks/results/fine_tuning_rules.jsonl").splitlines()
    return [json.loads(line) for line in lines]


def accuracies_of(name):
    """Return the accuracies of a list of each record, of shape (records, choices)."""
    return [[each["accuracy"] for each in record[name]] for record in rules_records()]


def above_all_layers(figure, records):
    """Return by how much the mean of both is above all layers, as a mean of some trainings."""
    return mean(
        record["layers"][BOTH][figure] - record["layers"][WHOLE][figure] for record in records
    )


def with_gains(are_little, limit=LITTLE):
    """Return the records where all layers gain little, or those where they do not."""
    return [record for record in rules_records() if gains_little(record, limit) == are_little]


def gains_little(record, limit):
    frozen, _, whole, _ = (mean(each["losses"]) for each in record["layers"])
    return frozen - whole < limit * record["guess"]


def is_close(choices, place, errors):
    """Return whether the losses of a choice are close to the lowest ones."""
    losses = np.array([each["losses"] for each in choices])
    lowest = losses[losses.mean(axis=1).argmin()]
    return is_near(losses[place], lowest, np.full(len(lowest), 1 / len(lowest)), errors)


def with_means(are_close):
    """Return the records where all layers gain little, and the mean of both is close, or not."""
    return [
        record
        for record in with_gains(are_little=True)
        if is_close(record["layers"], BOTH, CLEAR_OF_MEAN) == are_close
    ]


def accuracy_of_the_rule(limit, errors):
    """Return the mean accuracy of the rule for the layers, with this limit and difference."""
    accuracies = []
    for record in rules_records():
        layers = record["layers"]
        place = max(place for place in range(BOTH) if is_close(layers[:BOTH], place, CLEAR))
        if gains_little(record, limit) and is_close(layers, BOTH, errors):
            place = BOTH
        accuracies.append(layers[place]["accuracy"])
    return mean(accuracies)


def accuracies_of_limits():
    """Return the least and the largest mean accuracy of several limits, and that without means."""
    tried = [accuracy_of_the_rule(*each) for each in product((0.05, 0.1, 0.15), (1.0, 1.5, 2.0))]
    return [min(tried), max(tried), accuracy_of_the_rule(-np.inf, 1.0)]


# The page, a pattern with a group for each figure, and the figures.
SENTENCES = [
    (
        FINE_TUNING,
        r"loses ([\d.]+) points on average, and ([\d.]+) at worst",
        lambda: [
            100 * (layer_rule("all layers", "accuracy") - layer_rule(LOWEST, "accuracy")),
            layer_rule(LOWEST, "worst"),
        ],
    ),
    (
        FINE_TUNING,
        r"most accurate choice in (\d+) of the (\d+) trainings",
        lambda: [
            sum(whole >= max(others) for *others, whole, _ in accuracies_of("layers")),
            len(rules_records()),
        ],
    ),
    (
        FINE_TUNING,
        r"is ([\d.]+) points below all layers in the (\d+) trainings",
        lambda: [
            -100 * above_all_layers("accuracy", with_gains(are_little=False)),
            len(with_gains(are_little=False)),
        ],
    ),
    (
        FINE_TUNING,
        r"takes it in (\d+) of (\d+) trainings\. There it is ([\d.]+) points above all layers, and "
        r"its log loss is ([\d.]+) lower\. In the other (\d+) .* it is ([\d.]+) points below",
        lambda: [
            len(with_means(are_close=True)),
            len(with_gains(are_little=True)),
            100 * above_all_layers("accuracy", with_means(are_close=True)),
            -above_all_layers("log_loss", with_means(are_close=True)),
            len(with_means(are_close=False)),
            -100 * above_all_layers("accuracy", with_means(are_close=False)),
        ],
    ),
    (
        FINE_TUNING,
        r"accuracy of the 77 trainings is ([\d.]+) to ([\d.]+), and ([\d.]+) without the mean",
        accuracies_of_limits,
    ),
]
