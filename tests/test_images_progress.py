"""The progress bar: count, time, rate and a note on one line that always ends."""

import re
import sys
from types import SimpleNamespace

import pytest

from transferclf.images import progress
from transferclf.images.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: Clock.now))
    return Clock


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda: True)


def test_a_log_gets_the_last_state_only(clock, capsys):
    with progress_bar(40, "30 known") as advance:
        for _ in range(4):
            clock.now += 0.5
            advance(10)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == f"40/40 {'━' * 20} 2s - 20 images/s - 30 known\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_is_redrawn_in_place(clock, capsys):
    with progress_bar(40, "30 known") as advance:
        clock.now += 1
        advance(10)
        assert capsys.readouterr().out.rstrip() == (
            f"10/40 {'━' * 5}{' ' * 15} 3s left - 10 images/s - 30 known"
        )
        clock.now += 1
        advance(10)
        second = capsys.readouterr().out
        assert second.startswith("\r20/40")
        advance(10)  # too soon to be drawn again
        assert capsys.readouterr().out == ""
    assert re.match(r"\r30/40 .*30 known *\n$", capsys.readouterr().out)


@pytest.mark.usefixtures("terminal")
def test_a_shorter_line_covers_a_longer_one(clock, capsys):
    with progress_bar(2, "note") as advance:
        clock.now += 1000
        advance(1)
        first = capsys.readouterr().out
        assert "1000s left" in first
        clock.now += 0.001
        advance(1)
    assert len(capsys.readouterr().out.strip("\r\n")) >= len(first)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_line_ends_after_an_error(clock, capsys, error):
    def fail():
        with progress_bar(40, "0 known") as advance:
            advance(10)
            raise error

    with pytest.raises(error):
        fail()
    shown = capsys.readouterr().out
    assert shown.startswith("10/40")
    assert shown.endswith("\n")


@pytest.mark.parametrize(("seconds", "is_shown"), [(1.9, False), (2.1, True)])
def test_short_work_shows_nothing_when_told_to_wait(clock, capsys, seconds, is_shown):
    with progress_bar(5, "read", delay=2) as advance:
        clock.now += seconds
        advance(5)
    assert bool(capsys.readouterr().out) is is_shown


def test_no_output_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with progress_bar(5, "read") as advance:
        advance(5)


def test_slow_work_has_a_rate_too(clock, capsys):
    with progress_bar(3, "0 known") as advance:
        clock.now += 4
        advance(3)
    assert "0.75 images/s" in capsys.readouterr().out
