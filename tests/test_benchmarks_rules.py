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

from transferclf.training.choosing_cut import FAMILIAR

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = pytest.mark.scripts


@pytest.fixture(scope="module")
def rules():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("fine_tuning_rules")
    sys.path.remove(str(BENCHMARKS))


def choice(accuracy, losses):
    return {"accuracy": accuracy, "log_loss": 1 - accuracy, "losses": losses}


WORSE = [0.8, 1.2, 1.0, 1.0]
BEST = [0.7, 0.7, 0.9, 1.3]  # by a tenth; the standard error is 0.23
FAR = [9.0, 9.1, 9.0, 9.0]
RECORD = {
    "n": 150,
    "size": 64,
    "guess": 1.4,
    "shares": [
        choice(0.5, BEST),
        choice(0.6, FAR),
        choice(0.7, WORSE),
        choice(0.8, WORSE),
        choice(0.9, FAR),
    ],
    "layers": [choice(0.5, WORSE), choice(0.7, BEST), choice(0.9, FAR), choice(0.8, FAR)],
}


NONE = "  |" * 6
OURS = "| nearest to 0.75 within a standard error (ours) "


def test_each_rule_is_judged_by_the_accuracy_of_its_choice(rules):
    shares = rules.rules_table("share", [RECORD], "shares", rules.share_rules()).splitlines()
    assert "| the lowest loss | 0.500 | 0.500 | 40.0 |" + NONE in shares
    assert OURS + "| 0.800 | 0.200 | 10.0 |" + NONE in shares
    layers = rules.rules_table("layers", [RECORD], "layers", rules.layer_rules()).splitlines()
    assert "| all layers | 0.900 | 0.100 | 0.0 |" + NONE in layers
    ours = "| most layers within 3 standard errors "
    assert ours + "| 0.700 | 0.300 | 20.0 |" + NONE in layers


def familiar(mean):
    """Return a record whose frozen network does well, with a mean of these losses."""
    layers = [choice(0.5, WORSE), choice(0.7, BEST), choice(0.9, FAR), choice(0.8, mean)]
    return RECORD | {"guess": 1.1 * np.mean(BEST) / FAMILIAR, "layers": layers}


NEAR = [0.8, 0.65, 0.9, 1.3]  # by less than a standard error


@pytest.mark.parametrize(
    ("record", "accuracy"),
    [
        (familiar(NEAR), 0.8),
        (familiar(FAR), 0.7),
        (familiar(NEAR) | {"guess": 0.9 * np.mean(BEST) / FAMILIAR}, 0.7),
    ],
)
def test_a_near_mean_is_taken_where_the_frozen_network_does_well(rules, record, accuracy):
    lines = rules.rules_table("layers", [record], "layers", rules.layer_rules()).splitlines()
    (cells,) = [line.split(" | ") for line in lines if "(ours)" in line]
    assert cells[1] == f"{accuracy:.3f}"


def test_rules_about_means_say_nothing_of_records_without_one(rules):
    record = familiar(NEAR) | {"guess": 0.0}
    record["layers"] = record["layers"][:3]
    lines = rules.rules_table("layers", [record], "layers", rules.layer_rules()).splitlines()
    assert "| mean of the last two |  |  |  |" + NONE in lines
    assert "| all layers | 0.900 | 0.100 | 0.0 |" + NONE in lines


def test_two_classes_have_a_score_each(rules):
    classifier = SimpleNamespace(
        classes_=np.array(["ants", "bees"]), decision_function=lambda _: np.array([-2.0, 0.0, 3.0])
    )
    y = np.array(["ants", "bees", "bees"])
    scores, codes = rules.scored(classifier, rules.Split(y, y, y, y))
    np.testing.assert_allclose(softmax(scores, axis=1)[:, 1], expit([-2, 0, 3]))
    assert [*codes] == [0, 1, 1]


@pytest.mark.parametrize(("block", "whole", "accuracy"), [(0, 3, 0.3), (3, 0, 0.7), (0, 0, 0.0)])
def test_a_training_that_keeps_none_of_its_weights_has_no_mean(
    rules, monkeypatch, block, whole, accuracy
):
    X, y = np.zeros((80, 8, 8, 3), np.uint8), np.arange(80) % 2
    monkeypatch.setattr(rules, "split_of", lambda *_, **__: rules.Split(X, X, y, y))
    # Stands for trained layers: their share, and which they are.
    shares = {"block4": block, "all": whole}
    monkeypatch.setattr(
        rules,
        "heads_of",
        lambda classifier, _: [
            SimpleNamespace(soup=share, of=classifier.trainable_layers) for share in rules.SHARES
        ],
    )

    def judged(_, head, *__):
        points = {0.0: 0.0, 0.75: 0.3 if head.of == "all" else 0.7}
        return {"of": head.of, "accuracy": points.get(head.soup, 0.1)}

    monkeypatch.setattr(rules, "judged", judged)
    monkeypatch.setattr(rules, "guess", lambda *_: 1.0)
    monkeypatch.setattr(rules, "chosen_share", lambda found: shares[found[0]["of"]])
    found = rules.measure({"set": "x", "images": 0, "backbone": "tiny", "size": 64, "seed": 0})
    assert [each["accuracy"] for each in found["layers"]][3] == accuracy


@pytest.mark.parametrize(("n", "size", "place"), [(300, 128, 0), (301, 64, 1), (301, 128, 2)])
def test_each_training_is_in_one_group(rules, n, size, place):
    record = RECORD | {"n": n, "size": size}
    lines = rules.rules_table("share", [record], "shares", rules.share_rules()).splitlines()
    (cells,) = [line.split(" |")[1:-1] for line in lines if line.startswith("| always 1 ")]
    assert [cell.strip() for cell in cells[3 * place : 3 * place + 3]] == ["0.900", "0.100", "0.0"]
    assert sum(bool(cell.strip()) for cell in cells) == 3
    assert [int(n) for n in re.findall(r"(\d+) trainings", lines[0])] == [
        int(each == place) for each in range(3)
    ]


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


def test_all_of_a_file_is_compared_where_nothing_is_to_be_measured(
    rules, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD | {"n": 3000}) + "\n")
    monkeypatch.setattr(rules, "measure", None)
    monkeypatch.setattr(sys, "argv", ["x", "--measured", "--results", str(file)])
    rules.main()
    titles = "| few images: accuracy, 1 trainings | few images: log loss | few images: worst "
    assert titles + "| all images, 64 pixels: accuracy, 1 t" in capsys.readouterr().out
