"""The comparison of rules for fine-tuning, with given losses."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit, softmax

from transferclf.training.choosing_cut import CLEAR_OF_MEAN
from transferclf.training.soup import LITTLE

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = pytest.mark.scripts


@pytest.fixture(scope="module")
def rules():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("fine_tuning_rules")
    sys.path.remove(str(BENCHMARKS))


GUESS = 1.4
NOISE = np.array([-0.1, 0.1, -0.1, 0.1])


def choice(accuracy, loss, spread=1.0):
    """Return a choice with this accuracy and mean loss."""
    losses = loss + spread * NOISE
    return {"accuracy": accuracy, "log_loss": 1 - accuracy, "losses": [*losses]}


# Of five shares the third has the lowest loss, and all but the first and last are near it.
SHARES = [
    choice(0.5, 2.0),
    choice(0.6, 1.51, -1),
    choice(0.7, 1.5),
    choice(0.8, 1.52, -1),
    choice(0.9, 2.5),
]
LINES = {"last block": SHARES, "all layers": SHARES, "mean of both": SHARES}
RECORD = {"n": 150, "size": 64, "guess": GUESS, **LINES}


def row(table, rule):
    """Return the cells of the only row about a rule."""
    (cells,) = [line.split(" | ") for line in table.splitlines() if line.startswith(f"| {rule} ")]
    return [cell.strip(" |") for cell in cells[1:]]


def of_shares(rules, records):
    return rules.rules_table(
        "share", records, rules.shares_of, rules.share_rules(), rules.BELOW_FROZEN
    )


def of_layers(rules, records):
    return rules.rules_table("layers", records, rules.layers_of, rules.layer_rules(), "worst")


def test_each_rule_is_judged_by_the_accuracy_of_its_choice(rules):
    table = of_shares(rules, [RECORD])
    assert row(table, "always 0") == ["0.500", "0.500", "0.0"]
    assert row(table, "the lowest loss") == ["0.700", "0.300", "-20.0"]
    assert row(table, "nearest to 0.75 within a standard error") == ["0.800", "0.200", "-30.0"]


@pytest.mark.parametrize(("before", "accuracy"), [(1.51, "0.600"), (1.6, "0.700"), (2.0, "0.800")])
def test_our_share_is_the_usual_one_for_what_is_gained(rules, before, accuracy):
    record = RECORD | {"all layers": [choice(0.5, before), *SHARES[1:]]}
    table = of_shares(rules, [record])
    assert row(table, "nearest to the usual one for this gain (ours)")[0] == accuracy


@pytest.mark.parametrize(("after", "gain"), [(2.01, "nothing"), (1.99, "little"), (1.85, "much")])
def test_shares_are_told_apart_by_what_is_gained(rules, after, gain):
    shares = [choice(0.5, 2.0), *SHARES[1:3], choice(0.8, after), SHARES[4]]
    table = rules.gains_table([RECORD | {"all layers": shares}])
    assert row(table, gain) == ["1", "0.500", "0.600", "0.700", "0.800", "0.900"]
    assert sum(row(table, each)[0] == "0" for each in ("nothing", "little", "much")) == 2


def gaining(part, mean):
    """Return a record whose layers gain this part of a guess, with a mean of this loss."""
    lines = [
        [choice(0.5, 2.0), *4 * [each]]
        for each in (choice(0.7, 1.9), choice(0.9, 2.0 - part * GUESS), choice(0.8, mean, -1))
    ]
    return RECORD | dict(zip(LINES, lines, strict=True))


ERROR = 2 * NOISE.std(ddof=1) / 2  # of the difference to the mean, whose noise is the opposite


@pytest.mark.parametrize(
    ("part", "errors", "accuracy"),
    [
        (0.9 * LITTLE, 0.9 * CLEAR_OF_MEAN, "0.800"),
        (0.9 * LITTLE, 1.1 * CLEAR_OF_MEAN, "0.900"),
        (1.1 * LITTLE, 0.0, "0.900"),
    ],
)
def test_a_near_mean_is_taken_where_all_layers_gain_little(rules, part, errors, accuracy):
    record = gaining(part, 2.0 - part * GUESS + errors * ERROR)
    table = of_layers(rules, [record])
    assert row(table, "the last of these, or the mean")[0] == accuracy
    assert row(table, "most layers within 3 standard errors") == ["0.900", "0.100", "0.0"]


@pytest.mark.parametrize(
    ("mean", "accuracy"), [({}, "0.800"), ({"share": 0.5}, "0.800"), ({"share": 0.0}, "0.900")]
)
def test_early_records_have_the_layers_of_a_former_rule(rules, mean, accuracy):
    layers = [choice(each, 1.5) for each in (0.5, 0.7, 0.9, 0.8)]
    record = {"n": 150, "size": 64, "guess": GUESS, "all layers": SHARES, "layers": layers}
    layers[-1] |= mean
    assert row(of_shares(rules, [record]), "the lowest loss")[0] == "0.700"
    table = of_layers(rules, [record])
    assert row(table, "last block")[0] == "0.700"
    assert row(table, "the last of these, or the mean")[0] == accuracy


def test_the_tables_are_of_all_that_was_measured(rules, tmp_path, monkeypatch, capsys):
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD | {"n": 3000}) + "\n")
    monkeypatch.setattr(sys, "argv", ["x", "--measured", "--results", str(file)])
    rules.main()
    gains, *tables = capsys.readouterr().out.split("\n\n")
    assert row(gains, "nothing")[0] == "0"
    assert row(gains, "much")[0] == "2"
    for table in tables:
        assert "few images: accuracy, 1 trainings" in table
        assert "all images, 64 pixels: accuracy, 1 trainings" in table


def test_two_classes_have_a_score_each(rules):
    classifier = SimpleNamespace(
        classes_=np.array(["ants", "bees"]), decision_function=lambda _: np.array([-2.0, 0.0, 3.0])
    )
    y = np.array(["ants", "bees", "bees"])
    scores, codes = rules.scored(classifier, rules.Split(y, y, y, y))
    np.testing.assert_allclose(softmax(scores, axis=1)[:, 1], expit([-2, 0, 3]))
    assert [*codes] == [0, 1, 1]


def test_each_line_has_all_shares(rules, monkeypatch):
    X, y = np.zeros((80, 8, 8, 3), np.uint8), np.arange(80) % 2
    monkeypatch.setattr(rules, "split_of", lambda *_, **__: rules.Split(X, X, y, y))

    class Head(SimpleNamespace):
        def mean_with(self, other):
            return Head(of=(other.of, self.of), share=(self.share + other.share) / 2)

    monkeypatch.setattr(
        rules,
        "heads_of",
        lambda classifier, _: [
            Head(of=classifier.trainable_layers, share=share) for share in rules.SHARES
        ],
    )
    # A head is judged while the classifier is that of its layers.
    monkeypatch.setattr(
        rules,
        "judged",
        lambda classifier, head, *_: (classifier.trainable_layers, head.of, head.share),
    )
    monkeypatch.setattr(rules, "guess", lambda classifier, head, _: (head.of, head.share))
    found = rules.measure({"set": "x", "images": 0, "backbone": "tiny", "size": 64, "seed": 0})
    assert found["n"] == 80
    assert found["guess"] == ("all", 0.0)
    expected = {
        "last block": ("block4", "block4"),
        "all layers": ("all", "all"),
        "mean of both": ("all", ("block4", "all")),
    }
    for line, of in expected.items():
        assert found[line] == [(*of, share) for share in rules.SHARES]


@pytest.mark.parametrize(
    ("n", "size", "group"),
    [
        (300, 128, "few images"),
        (301, 64, "all images, 64 pixels"),
        (301, 128, "all images, 128 pixels"),
    ],
)
def test_each_training_is_in_one_group(rules, n, size, group):
    table = of_shares(rules, [RECORD | {"n": n, "size": size}])
    assert row(table, "always 1") == ["0.900", "0.100", "-40.0"]
    assert re.findall(r"\| ([^|]*): accuracy, (\d+) trainings", table) == [(group, "1")]


def test_measured_settings_are_not_measured_again(rules, tmp_path, monkeypatch, capsys):
    asked = []

    def measure(setting):
        asked.append(setting["set"])
        return RECORD

    monkeypatch.setattr(rules, "measure", measure)
    file = tmp_path / "results.jsonl"
    command = ["x", "--sets", "digits", "cifar10", "--backbones", "tiny", "--images", "150"]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(file)])
    rules.main()
    rules.main()
    assert asked == ["digits", "cifar10"]
    assert [json.loads(line)["set"] for line in file.read_text().splitlines()] == asked
    assert "| last block |" in capsys.readouterr().out
