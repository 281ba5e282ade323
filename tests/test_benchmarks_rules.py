"""The comparison of rules for fine-tuning, with given losses."""

import importlib
import json
import sys
from pathlib import Path

import pytest

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
    "shares": [choice(0.5, BEST), choice(0.6, FAR), *[choice(0.8, WORSE)] * 2, choice(0.9, FAR)],
    "layers": [choice(0.5, WORSE), choice(0.7, BEST), choice(0.9, FAR)],
}


def test_each_rule_is_judged_by_the_accuracy_of_its_choice(rules):
    shares = rules.rules_table("share", [RECORD], "shares", rules.share_rules()).splitlines()
    assert "| the lowest loss | 0.500 | 0.500 | 40.0 | 0.500 | 0.500 | 40.0 |" in shares
    ours = "| nearest to 0.75 within a standard error (ours) "
    assert ours + "| 0.800 | 0.200 | 10.0 | 0.800 | 0.200 | 10.0 |" in shares
    layers = rules.rules_table("layers", [RECORD], "layers", rules.layer_rules()).splitlines()
    assert "| all layers | 0.900 | 0.100 | 0.0 | 0.900 | 0.100 | 0.0 |" in layers
    ours = "| most layers within 3 standard errors (ours) "
    assert ours + "| 0.700 | 0.300 | 20.0 | 0.700 | 0.300 | 20.0 |" in layers


def test_trainings_on_many_images_are_only_in_the_first_columns(rules):
    many = RECORD | {"n": 3000}
    (line,) = [
        line
        for line in rules.rules_table("share", [many], "shares", rules.share_rules()).splitlines()
        if line.startswith("| always 1 ")
    ]
    assert line == "| always 1 | 0.900 | 0.100 | 0.0 |  |  |  |"


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
