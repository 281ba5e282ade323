"""The records of the rules of fine-tuning, and the sentences of the page about them."""

import functools
import importlib
import json
import sys
from statistics import mean

import numpy as np
from page_helpers import FINE_TUNING, ROOT, number, read, rows_of

GAINS, LAYERS = "fine-tuning, rules", "fine-tuning, rules 3"
LOWEST = "the lowest loss, without the mean"
FROZEN, WHOLE, BOTH = 0, 2, 3  # places in the options for layers


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
def trainings():
    lines = read("benchmarks/results/fine_tuning_rules.jsonl").splitlines()
    return [json.loads(line) for line in lines]


@functools.cache
def options():
    """Return the options for layers of each training."""
    return [rules().layers_of(training) for training in trainings()]


def layer_rule(rule, figure, group="few images"):
    """Return a figure of a rule for the layers."""
    (row,) = [row for row in rows_of(LAYERS) if row["trained layers"] == rule]
    (cell,) = [row[column] for column in row if column.startswith(f"{group}: {figure}")]
    return number(cell)


# --- shares


def with_usual(share_of_gain):
    """Return the results of all trainings, with another usual share for each gain of 0.75."""
    module = rules()
    results = []
    for training in trainings():
        shares = training["all layers"]
        usual = share_of_gain(gain(training), training["guess"])
        near = [place for place in range(len(shares)) if module.is_close(shares, place, 1.0)]
        place = min(near, key=lambda place: abs(module.SHARES[place] - usual))
        results.append(shares[place])
    return results


def gain(training):
    """Return how much validation loss three quarters of the trained weights gain."""
    shares = dict(zip(rules().SHARES, training["all layers"], strict=True))
    return float(np.mean(shares[0.0]["losses"]) - np.mean(shares[rules().USUAL]["losses"]))


def with_limit(limit):
    """Return the mean accuracy in percent, where less than this part of a guess is little."""

    def usual(gain, guess):
        return 0.25 if not gain > 0 else 0.5 if gain < limit * guess else 0.75

    return 100 * mean(each["accuracy"] for each in with_usual(usual))


def where_much_is_gained(figure, usual):
    """Return the mean figure of the trainings that gain much, with this usual share for them."""
    results = with_usual(lambda gain, guess: usual)
    return mean(
        result[figure]
        for result, training in zip(results, trainings(), strict=True)
        if rules().gain_of(training) == "much"
    )


def of_lowest_loss():
    """Return the results of all trainings, of the share with the lowest loss."""
    shares = [training["all layers"] for training in trainings()]
    return [each[rules().lowest(each)] for each in shares]


def below_frozen(share_of_gain):
    return below_frozen_by(with_usual(share_of_gain))


def below_frozen_by(results):
    """Return by how many points each training ends below the frozen network."""
    return [
        100 * (training["all layers"][0]["accuracy"] - result["accuracy"])
        for training, result in zip(trainings(), results, strict=True)
    ]


def at_least_half_a_point(points):
    return sum(each > 0.5 - 1e-6 for each in points)


# --- layers


def means(where):
    """Return by how much the means of both are above all layers, in some trainings."""
    return [
        {figure: each[BOTH][figure] - each[WHOLE][figure] for figure in ("accuracy", "log_loss")}
        for training, each in zip(trainings(), options(), strict=True)
        if where(training, each)
    ]


def gains_much(training, layers):
    frozen, whole = (np.mean(layers[place]["losses"]) for place in (FROZEN, WHOLE))
    return frozen - whole >= rules().LITTLE * training["guess"]


def takes_the_mean(training, layers):
    return rules().chosen_layers(layers, training) == BOTH


def leaves_the_mean(training, layers):
    little = has_mean(layers) and not gains_much(training, layers)
    return little and not takes_the_mean(training, layers)


def has_none(training, layers):
    return not has_mean(layers) and not gains_much(training, layers)


def has_mean(layers):
    return all(each.get("share") != 0 for each in layers[1:])


def of_means(figure, where):
    return mean(each[figure] for each in means(where))


def with_mean(limit, errors):
    """Return the mean accuracy of the rule for the layers, with this limit and difference."""
    module, accuracies = rules(), []
    for training, layers in zip(trainings(), options(), strict=True):
        frozen, whole = (np.mean(layers[place]["losses"]) for place in (FROZEN, WHOLE))
        is_little = has_mean(layers) and frozen - whole < limit * training["guess"]
        takes = is_little and module.is_close(layers, BOTH, errors)
        place = BOTH if takes else module.most_layers(layers, module.CLEAR)
        accuracies.append(layers[place]["accuracy"])
    return mean(accuracies)


def limits_of_the_mean():
    return [with_mean(limit, errors) for limit in (0.05, 0.1, 0.15) for errors in (1.0, 2.0)]


# The page, a pattern with a group for each figure, and the figures.
SENTENCES = [
    (
        FINE_TUNING,
        r"with three networks and (\d+) image sets \((\d+) trainings\)",
        lambda: [len({each["set"] for each in trainings()}), len(trainings())],
    ),
    (
        FINE_TUNING,
        r"the whole of the trained weights is ([\d.]+) points better than three quarters\. As a "
        r"usual share it adds ([\d.]+) points there, and the log loss is ([\d.]+) instead of "
        r"([\d.]+)\.",
        lambda: [
            100
            * mean(
                training["all layers"][4]["accuracy"] - training["all layers"][3]["accuracy"]
                for training in trainings()
                if rules().gain_of(training) == "much"
            ),
            100 * (where_much_is_gained("accuracy", 1.0) - where_much_is_gained("accuracy", 0.75)),
            where_much_is_gained("log_loss", 1.0),
            where_much_is_gained("log_loss", 0.75),
        ],
    ),
    (
        FINE_TUNING,
        r"usual share of all, (\d+) of the trainings end below the frozen network by half a point "
        r"or more, one of them by ([\d.]+) points\. With ours it is (\d+), by ([\d.]+)\. "
        r"The lowest loss alone is ([\d.]+) points less accurate than ours on average, and at most "
        r"([\d.]+) points below the frozen network",
        lambda: [
            at_least_half_a_point(below_frozen(lambda gain, guess: 0.75)),
            max(below_frozen(lambda gain, guess: 0.75)),
            at_least_half_a_point(below_frozen(rules().usual_share)),
            max(below_frozen(rules().usual_share)),
            100 * mean(each["accuracy"] for each in with_usual(rules().usual_share))
            - 100 * mean(each["accuracy"] for each in of_lowest_loss()),
            max(below_frozen_by(of_lowest_loss())),
        ],
    ),
    (
        FINE_TUNING,
        r"with 0\.05, 0\.1 and 0\.15 of a guess, ([\d.]+) % of the images",
        lambda: [with_limit(0.1)],
    ),
    (
        FINE_TUNING,
        r"keep all layers in each of the (\d+) trainings\. The lowest loss of a few images loses "
        r"([\d.]+) points on average, and is up to ([\d.]+) below the best choice",
        lambda: [
            sum(rules().most_layers(each, rules().CLEAR) == WHOLE for each in options()),
            100 * (layer_rule("all layers", "accuracy") - layer_rule(LOWEST, "accuracy")),
            layer_rule(LOWEST, "worst"),
        ],
    ),
    (
        FINE_TUNING,
        r"is ([\d.]+) points below all layers in the (\d+) trainings where all layers gain much",
        lambda: [-100 * of_means("accuracy", gains_much), len(means(gains_much))],
    ),
    (
        FINE_TUNING,
        r"the rule takes it in (\d+) of (\d+) trainings\. \(In (\d+) others [^)]*\) There it is "
        r"([\d.]+) points above all layers, and its log loss is ([\d.]+) lower\. In the others the "
        r"held-out images speak against it, and it is ([\d.]+) points below",
        lambda: [
            len(means(takes_the_mean)),
            len(means(takes_the_mean)) + len(means(leaves_the_mean)),
            len(means(has_none)),
            100 * of_means("accuracy", takes_the_mean),
            -of_means("log_loss", takes_the_mean),
            -100 * of_means("accuracy", leaves_the_mean),
        ],
    ),
    (
        FINE_TUNING,
        r"In (\d+) of the trainings, measured early",
        lambda: [sum("layers" in each for each in trainings())],
    ),
    (
        FINE_TUNING,
        r"the mean accuracy is (0\.\d+) to (0\.\d+), and (0\.\d+) without the mean",
        lambda: [
            min(limits_of_the_mean()),
            max(limits_of_the_mean()),
            with_mean(-np.inf, 0.0),
        ],
    ),
]
