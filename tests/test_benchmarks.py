"""The benchmarks: their measuring functions, their page, and that every script can run."""

import importlib
import io
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# Scripts that run.py does not run, because they make no claims or are not for everybody.
HELPERS = {
    "figures",
    "machine",
    "measuring",
    "pictures",
    "run",
    "accuracy",
    "blood_cells",
    "attributes",
    "beyond_memory",
    "cluster",
    "defaults",
    "exporting",
    "fine_tuning_ablation",
    "fine_tuning_peers",
    "images_per_class",
    "fine_tuning_quality",
    "fine_tuning_rules",
    "numbers_target",
    "scaling_model",
    "targets",
    "tiny_scratch",
    "torch_peers",
    "unknowns",
}

pytestmark = pytest.mark.scripts


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def measuring(_importable):
    return importlib.import_module("measuring")


@pytest.fixture(scope="module")
def run(_importable):
    return importlib.import_module("run")


def test_candidates_take_turns(measuring):
    turns = []

    def candidate(name, seconds):
        costs = iter(seconds)

        def turn():
            turns.append(name)
            return measuring.Usage(*next(costs))

        return turn

    timed = measuring.timings(
        {
            "a": candidate("a", [(1, 9), (5, 7), (2, 8)]),
            "b": candidate("b", [(4, 1), (4, 3), (40, 2)]),
        },
        rounds=3,
    )
    assert turns == ["a", "b"] * 3
    assert timed == {"a": measuring.Timing(2, 7), "b": measuring.Timing(4, 1)}
    assert measuring.ratio_of(timed, slow="b", fast="a") == 2


def test_functions_of_this_process_warm_up_before_they_are_timed(measuring):
    calls = []
    timed = measuring.timings_here({"a": lambda: calls.append("a")}, rounds=2)
    assert calls == ["a"] * 3
    assert timed["a"].cpu < 1


def test_usage_counts_work_and_not_waiting(measuring):
    waiting = measuring.usage_of(lambda: time.sleep(0.2))
    assert waiting.wall >= 0.2
    assert waiting.cpu < 0.1
    working = measuring.usage_of(lambda: sum(range(5_000_000)))
    assert working.cpu > waiting.cpu


@given(st.floats(0.001, 1000), st.floats(0.001, 1000), st.booleans())
def test_a_claim_holds_on_its_side_of_the_bound(measuring, measured, bound, at_least):
    claim = measuring.Claim("x", measured, bound, at_least)
    assert claim.holds == (measured >= bound if at_least else measured <= bound)
    opposite = claim._replace(at_least=not at_least)
    assert claim.holds != opposite.holds or measured == bound


@pytest.mark.parametrize("at_least", [True, False])
def test_a_claim_about_nan_does_not_hold(measuring, at_least):
    assert not measuring.Claim("x", float("nan"), 1.0, at_least).holds


def test_tables_are_markdown(measuring):
    timed = {"slow": measuring.Timing(2.0, 1.5), "fast": measuring.Timing(0.5, 0.4)}
    lines = measuring.timing_table(timed, unit=1e-3, name="ms").splitlines()
    assert lines == [
        "| what | CPU ms, median | wall ms, best | ratio of CPU |",
        "| --- | ---: | ---: | ---: |",
        "| slow | 2000 | 1500 | 1.00 |",
        "| fast | 500 | 400 | 0.250 |",
    ]


def test_the_table_shows_whether_claims_hold(measuring):
    claims = [
        measuring.Claim("times faster", 3.0, 2.0),
        measuring.Claim("megabytes", 120.0, 100.0, at_least=False),
    ]
    assert measuring.claims_table(claims).splitlines()[2:] == [
        "| times faster | ≥ 2.00 | 3.00 | holds |",
        "| megabytes | ≤ 100 | 120 | does not hold |",
    ]


@pytest.mark.parametrize(
    ("measured", "bound", "at_least", "shown"),
    [
        (1.4978, 1.5, True, "< 1.50"),
        (0.94966, 0.95, True, "< 0.950"),
        (10.004, 10.0, False, "> 10.00"),
        (1.49, 1.5, True, "1.49"),
        (1.5, 1.5, True, "1.50"),
    ],
)
def test_a_value_just_off_its_bound_is_not_shown_as_the_bound(
    measuring, measured, bound, at_least, shown
):
    (row,) = measuring.claims_table([measuring.Claim("x", measured, bound, at_least)]).splitlines()[
        2:
    ]
    assert row.split(" | ")[2] == shown


def test_table_of_no_claims_is_empty(measuring):
    assert measuring.claims_table([]) == ""


@given(st.floats(1e-9, 1e9))
@example(0.0625)
@example(0.00123)
def test_numbers_keep_three_digits(measuring, value):
    assert float(measuring.number(value)) == pytest.approx(value, rel=6e-3)


def test_memory_is_measured_for_this_process(measuring):
    before = measuring.resident_bytes()
    # More than the C library takes from freed memory of this process (32 MB).
    held = np.ones(60_000_000, np.uint8)
    assert measuring.resident_bytes() - before > 50e6
    assert measuring.peak_bytes() >= measuring.resident_bytes() - 1e6
    assert held.all()


def test_the_summary_counts_claims_and_names_missed_ones(run, measuring):
    claims = [measuring.Claim("good", 3.0, 2.0), measuring.Claim("bad", 1.0, 2.0)]
    sections = [f"## First\n\n{measuring.claims_table(claims)}", "## Second\n\nno claims"]
    text = run.summary(sections)
    assert text.startswith("1 of 2 claims hold.")
    assert "| bad | ≥ 2.00 | 1.00 | does not hold |" in text
    assert "good" not in text


PAGE = BENCHMARKS.parent / "docs/explanation/benchmarks.md"


def test_run_writes_the_page_from_its_tables(run):
    text = PAGE.read_text(encoding="utf-8")
    page = run.read_page(text)
    assert [*page.sections] == [*run.SCRIPTS]
    assert page.text() == text, (
        "python benchmarks/run.py --only --output docs/explanation/benchmarks.md"
    )


def run_with(run, monkeypatch, *arguments):
    """Run the command line with a fast substitute for each script."""

    def section(name, flags):
        measuring = importlib.import_module("measuring")
        claim = measuring.Claim(f"{name} is fast", 3.0 if name == "store" else 1.0, 2.0)
        claims = measuring.claims_table([claim])
        return f"## About {name}\n\n`python benchmarks/{name}.py`\n\n{claims}\n"

    monkeypatch.setattr(run, "section", section)
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    run.main()


def test_a_new_section_changes_the_headline(run, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    run_with(run, monkeypatch, "--only", "store", "heads", "memory", "--output", page)
    first = page.read_text()
    assert "1 of 3 claims hold." in first
    assert "Measured after the rest" not in first
    page.write_text(first.replace("| heads is fast | ≥ 2.00 | 1.00 |", "| heads | ≥ 2.00 | 0.5 |"))
    run_with(run, monkeypatch, "--only", "store", "--output", page)
    second = run.read_page(page.read_text())
    assert [*second.sections] == ["heads", "store", "memory"]
    assert "| heads | ≥ 2.00 | 0.5 |" in second.sections["heads"]
    assert "Measured after the rest of this page" in second.sections["store"]
    assert "1 of 3 claims hold." in page.read_text()


def test_a_section_names_another_machine(run, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(run, "machine_facts", lambda: "- one core\n- keras 3.15.1\n")
    run_with(run, monkeypatch, "--only", "heads", "store", "--output", page)
    monkeypatch.setattr(run, "machine_facts", lambda: "- two cores\n- keras 3.16.0\n")
    run_with(run, monkeypatch, "--only", "store", "--output", page)
    written = run.read_page(page.read_text())
    assert written.facts == "- one core\n- keras 3.15.1\n"
    assert "- two cores\n- keras 3.16.0" in written.sections["store"]
    assert "two cores" not in written.sections["heads"]
    assert written.text() == page.read_text()


def test_claims_of_a_page_can_be_counted_again(run, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    run_with(run, monkeypatch, "--only", "heads", "store", "--output", page)
    whole = page.read_text()
    page.write_text(whole.replace("1 of 2 claims hold", "39 of 41 claims hold"))
    run_with(run, monkeypatch, "--only", "--output", page)
    assert page.read_text() == whole


@pytest.mark.parametrize("arguments", [["--only"], ["--only", "sotre"], ["--only", "run"]])
def test_a_run_of_no_known_script_is_an_error(run, monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit):
        run_with(run, monkeypatch, *arguments)
    assert "--only without names" in (said := capsys.readouterr().err) or "store" in said


def test_the_description_of_the_machine_has_no_name(run):
    facts = run.machine_facts()
    assert "numpy" in facts
    assert platform.node() not in facts
    assert str(BENCHMARKS.parent) not in facts


def test_the_section_of_a_failed_script_says_so(run, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text('"""What it shows."""\nprint("before")\n1 / 0\n')
    monkeypatch.setattr(run, "__file__", str(tmp_path / "run.py"))
    text = run.section("broken", ["--quick"])
    assert text.startswith("## What it shows\n")
    assert "before" in text
    assert "`broken.py` ended with exit status 1." in text


def test_run_knows_every_script(run):
    assert {*run.SCRIPTS} | HELPERS == {path.stem for path in BENCHMARKS.glob("*.py")}


def scripts():
    return sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in HELPERS)


@pytest.mark.parametrize("name", scripts())
def test_every_script_imports_and_has_a_main(name):
    module = importlib.import_module(name)
    assert callable(module.main)
    assert module.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", ["decoding", "store"])
def test_scripts_can_be_tried_out(name):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "| claim | promised | measured | result |" in done.stdout


def test_functions_run_in_processes_of_their_own(measuring, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\nimport measuring\n"
        '"""What it shows."""\n'
        "def child(number):\n    print('chatter')\n    return [number, os.getpid()]\n"
        "def main(options):\n"
        "    number, process = measuring.child_result(child, number=3)\n"
        "    print(number, process != os.getpid())\n"
        "    try:\n        measuring.child_result(child, number=1, other=2)\n"
        "    except RuntimeError as error:\n        print('other' in str(error))\n"
        "main.__doc__ = __doc__ = 'What it shows.'\n"
        "if __name__ == '__main__':\n    measuring.start(main, [child])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3", "True", "True"], done.stderr


def test_drawn_files_are_as_large_as_photographs():
    pictures = importlib.import_module("pictures")
    contents = pictures.jpeg_of(240, 320)
    assert 0.1 < len(contents) / (240 * 320) < 0.6
    assert Image.open(io.BytesIO(contents)).size == (320, 240)


def test_peers_prepare_images_alike():
    pytest.importorskip("torch")
    torch_peers = importlib.import_module("torch_peers")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
    together = torch_peers.scaled(images).numpy()
    assert together.shape == (3, 3, 16, 20)
    np.testing.assert_allclose(torch_peers.one_by_one(images).numpy(), together, atol=1e-6)


def test_peers_that_are_not_installed_are_left_out(monkeypatch):
    torch_peers = importlib.import_module("torch_peers")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    left_out = {"timm and PyTorch": "timm and torch cannot be imported"}
    assert torch_peers.peers("resnet50", np.zeros((1, 8, 8, 3), np.uint8)) == ({}, left_out)
