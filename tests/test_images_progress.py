"""Progress: a bar of tqdm on a terminal, and one complete line elsewhere."""

import multiprocessing
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from transferclf.images import progress
from transferclf.images.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """Return a clock whose seconds pass only when a test advances it."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: Clock.now))
    return Clock


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    monkeypatch.setattr(progress, "INTERVAL", 0)


def test_a_log_gets_only_the_last_state(clock, capsys):
    with progress_bar(40, "30 known") as advance:
        for _ in range(4):
            clock.now += 0.5
            advance(10)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "40/40 in 2s - 20 images/s - 30 known\n"
    with progress_bar(40) as advance:
        clock.now += 2
        advance(40)
    assert capsys.readouterr().out == "40/40 in 2s - 20 images/s\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_is_redrawn_in_place(capsys):
    with progress_bar(40, "30 known", title="features") as advance:
        assert "features:   0%|" in capsys.readouterr().out
        advance(10)
        first = capsys.readouterr().out
        assert re.match(r"\rfeatures:  25%\|.*\| 10/40 \[.*images/s, 30 known\]", first)
        advance(20)
        assert capsys.readouterr().out.startswith("\rfeatures:  75%|")
    assert re.search(r"\| 30/40 \[.*30 known\] *\n$", capsys.readouterr().out)


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_line_ends_after_an_error(capsys, error, is_live, monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda: is_live)

    def fail():
        with progress_bar(40, "0 known") as advance:
            advance(10)
            raise error

    with pytest.raises(error):
        fail()
    shown = capsys.readouterr().out
    assert "10/40" in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize(("seconds", "is_shown"), [(1.9, False), (2.1, True)])
def test_short_work_shows_nothing_with_a_delay(clock, capsys, seconds, is_shown):
    with progress_bar(5, "read", delay=2) as advance:
        clock.now += seconds
        advance(5)
    assert bool(capsys.readouterr().out) is is_shown


@pytest.mark.usefixtures("terminal")
def test_short_work_shows_no_bar_with_a_delay(capsys):
    with progress_bar(5, "read", delay=60) as advance:
        advance(5)
    assert capsys.readouterr().out == ""


def test_progress_works_without_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with progress_bar(5, "read") as advance:
        advance(5)


def test_slow_work_shows_a_rate(clock, capsys):
    with progress_bar(3, "0 known") as advance:
        clock.now += 4
        advance(3)
    assert "0.75 images/s" in capsys.readouterr().out


@pytest.mark.usefixtures("terminal")
def test_a_bar_starts_no_thread_and_no_lock_between_processes(monkeypatch):
    def refused(*args):
        raise AssertionError

    progress._bar_class.cache_clear()
    monkeypatch.setattr(multiprocessing, "RLock", refused)
    before = threading.active_count()
    with progress_bar(5, "read") as advance:
        advance(5)
        assert threading.active_count() == before


def test_tqdm_is_imported_only_for_a_bar():
    code = (
        "import sys\n"
        "from transferclf.images.progress import progress_bar\n"
        "with progress_bar(5, 'read') as advance: advance(5)\n"
        "print('tqdm' in sys.modules)\n"
        "sys.stdout.isatty = lambda: True\n"
        "with progress_bar(5, 'read') as advance: advance(5)\n"
        "print('tqdm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = re.split("[\r\n]+", done.stdout)
    assert [line for line in lines if line in ("True", "False")] == ["False", "True"]
    assert re.search(r"100%\|[█#]+\| 5/5", done.stdout)


def test_a_notebook_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    with progress_bar(4, "read") as advance:
        advance(4)
    assert "100%|" in capsys.readouterr().out
