"""The tool that keeps measured tables in one file, and writes them into the pages."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
OLD = "| images | accuracy |\n|---|---:|\n| a | 0.5 |\n| b | |\n"
NEW = "| images | accuracy |\n| --- | ---: |\n| a | 0.75 |\n| b | 0.875 |\n"
PAGE = (
    f"# Title\n\n## How good\n\nText.\n\n{OLD}\n## Other\n\n| x | y |\n|---|---|\n| 1 | `a|b` |\n"
)


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("figures")


@pytest.fixture
def file(figures, tmp_path):
    """A page, and a file with the record of its first table."""
    (tmp_path / "page.md").write_text(PAGE)
    file = tmp_path / "figures.json"
    figures.write({}, file)
    figures.take("good", "page.md", "## How good", 1, "python a.py", tmp_path, file)
    return file


def test_tables_are_read_cell_by_cell(figures):
    first, second = figures.tables(PAGE)
    assert first == (["images", "accuracy"], [["a", "0.5"], ["b", ""]])
    assert second.rows == [["1", "`a|b`"]]


def test_a_table_of_a_page_is_recorded(figures, file):
    record = figures.read(file)["good"]
    assert record["pages"] == ["page.md"]
    assert record["command"] == "python a.py"
    assert figures.table_of(record) == next(iter(figures.tables(PAGE)))
    assert "cores" in record["machine"]


def test_a_missing_table_is_an_error(figures, file, tmp_path):
    with pytest.raises(SystemExit, match="table 2 below '## Other' in page.md, got 1 tables"):
        figures.take("other", "page.md", "## Other", 2, "python a.py", tmp_path, file)


def test_the_file_has_a_line_for_each_row(figures, file):
    text = file.read_text()
    assert '   ["a", "0.5"],\n   ["b", ""]\n' in text
    assert json.loads(text) == figures.read(file)


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    return [str(path)]


def test_a_run_replaces_figures_in_the_file_and_on_the_page(figures, file, tmp_path, capfd):
    command = script(tmp_path, f"print({f'Text.{chr(10) * 2}{NEW}{chr(10)}{NEW}'!r})")
    figures.run("good", command, tmp_path, file)
    found = figures.read(file)
    assert [*found] == ["good", "good 2"]
    assert found["good"]["rows"] == [["a", "0.75"], ["b", "0.875"]]
    assert found["good"]["pages"] == ["page.md"]
    assert found["good 2"]["pages"] == []
    new = NEW.replace("| --- | ---: |", "|---|---:|")  # the page keeps its ruler
    assert (tmp_path / "page.md").read_text() == PAGE.replace(OLD, new)
    assert "good: written to page.md 1 times" in capfd.readouterr().err


def test_a_run_may_change_the_columns(figures, file, tmp_path):
    wide = "| images | frozen | tuned |\n|---|---|---|\n| a | 1 | |\n"
    figures.run("good", script(tmp_path, f"print({wide!r})"), tmp_path, file)
    ruled = wide.replace("|---|---|---|", "| --- | ---: | ---: |")
    assert (tmp_path / "page.md").read_text() == PAGE.replace(OLD, ruled)


@pytest.mark.parametrize("text", ["print('no table')", f"print({NEW!r})\n1 / 0"])
def test_a_failed_run_changes_nothing(figures, file, tmp_path, text):
    before = file.read_text()
    with pytest.raises(SystemExit, match="nothing is recorded"):
        figures.run("good", script(tmp_path, text), tmp_path, file)
    assert file.read_text() == before
    assert (tmp_path / "page.md").read_text() == PAGE


def test_a_run_needs_a_script(figures, monkeypatch, capsys):
    """Without one, Python would wait for lines of a program."""
    monkeypatch.setattr(sys, "argv", ["figures.py", "run", "good"])
    monkeypatch.setattr(figures.subprocess, "run", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(SystemExit):
        figures.main()
    assert "required: script" in capsys.readouterr().err


def test_a_moved_table_is_found(figures, file, tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "new.md").write_text(OLD)
    (tmp_path / "page.md").write_text(PAGE.replace(OLD, ""))
    figures.find_pages(tmp_path, file)
    assert figures.read(file)["good"]["pages"] == ["docs/new.md"]
    assert "good: ['page.md'] before, ['docs/new.md'] now" in capsys.readouterr().out


def test_a_page_of_benchmarks_is_recorded_section_by_section(figures, monkeypatch):
    run = importlib.import_module("run")
    claims = "| claim | promised | measured | result |\n|---|---:|---:|---:|\n"
    missed = f"{claims}| fast | ≥ 2.00 | 1.00 | does not hold |\n"
    text = "## {0}\n\n`python benchmarks/{0}.py`\n\n{1}\n"
    page = run.Page("", {"heads": text.format("heads", NEW), "store": text.format("store", missed)})
    old = {"command": "", "date": "", "machine": "", "columns": [], "rows": []}
    before = {
        name: old | {"pages": [it]}
        for name, it in [("heads", "tiny.md"), ("heads 2", run.PAGE), ("scaling", run.PAGE)]
    }
    after = run.with_records(before, page, ["heads", "store"])
    assert [*after] == ["heads", "scaling", "claims that do not hold", "store"]
    assert after["heads"]["pages"] == [run.PAGE, "tiny.md"]
    assert after["heads"]["command"] == "python benchmarks/heads.py"
    assert after["scaling"] == before["scaling"]
    assert after["store"]["rows"] == after["claims that do not hold"]["rows"]
    assert after["claims that do not hold"]["command"] == "python benchmarks/run.py"


def test_trials_record_nothing(figures, monkeypatch, tmp_path):
    """Record only the page of the documentation, and no quick run."""
    run = importlib.import_module("run")
    monkeypatch.setattr(
        run, "section", lambda name, flags: f"## A\n\n`python benchmarks/{name}.py`\n\n{NEW}\n"
    )
    monkeypatch.setattr(figures, "write", lambda *arguments: pytest.fail("written"))
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--only", "store", "--output", str(tmp_path / "page.md")]
    )
    run.main()
    assert "0.875" in (tmp_path / "page.md").read_text()
