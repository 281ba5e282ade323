"""Tests of progress and results on unusual standard outputs: printing never raises."""

import io
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferclf import FeatureStore, TransferClassifier
from transferclf._printing import is_terminal, printable, say
from transferclf.exceptions import ImageReadError, InvalidParameterError
from transferclf.images import progress
from transferclf.images.progress import progress_bar
from transferclf.reports import Evaluation, audit, run_experiments
from transferclf.reports.names import short_name

ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "shift_jis", "utf-8", "utf-16"]


class WriteOnly:
    """An output that can only write, like those of loggers and test frameworks."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class AsciiOnly(WriteOnly):
    """An ASCII output that does not name its encoding."""

    def write(self, text):
        super().write(text.encode("ascii").decode())


class Broken(WriteOnly):
    encoding = 7

    def isatty(self):
        raise OSError("no such device")

    def write(self, text):
        raise OSError("no space left on device")


class NoMethods:
    pass


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def encoded(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)


def shown(stream):
    return stream.buffer.getvalue().decode(stream.encoding)


def unknown():
    stream = WriteOnly()
    stream.encoding = "no such encoding"
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "write only": WriteOnly,
    "ascii, unsaid": AsciiOnly,
    "broken": Broken,
    "no methods": NoMethods,
    "unknown encoding": unknown,
    "text in memory": io.StringIO,
    **{encoding: lambda encoding=encoding: encoded(encoding) for encoding in ENCODINGS},
}


@pytest.fixture(params=STREAMS)
def stream(request, monkeypatch):
    stream = STREAMS[request.param]()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("is_live", [True, False])
def test_a_bar_never_raises(is_live, monkeypatch):
    assert not is_terminal()
    monkeypatch.setattr(progress, "is_terminal", lambda: is_live)
    with progress_bar(3, "日本\n語 \udce9 🏀") as advance:
        advance(3)


@pytest.mark.usefixtures("stream")
def test_verbose_fits_and_experiments_never_raise(rng, tmp_path):
    X = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    y = np.arange(12) % 2
    options = {"image_size": 32, "cache": FeatureStore(), "verbose": 1}
    classifier = TransferClassifier("tiny", **options).fit(X, y)
    classifier.predict(X)
    runs = {"日本 🏀": TransferClassifier("tiny", l2=0.1, image_size=32)}
    run_experiments(runs, X, y, directory=tmp_path, cv=2, verbose=1)
    assert (tmp_path / "日本 🏀").exists() or any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("ascii", r"caf\xe9 \u65e5"),
        ("latin-1", r"café \u65e5"),
        ("cp1252", r"café \u65e5"),
        ("cp437", r"café \u65e5"),
        ("shift_jis", r"caf\xe9 日"),
        ("utf-8", "café 日"),
        ("utf-16", "café 日"),
    ],
)
@pytest.mark.parametrize("is_live", [True, False])
def test_progress_uses_the_characters_of_the_encoding(encoding, note, is_live, monkeypatch):
    stream = encoded(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(progress, "is_terminal", lambda: is_live)
    with progress_bar(4, "café 日") as advance:
        advance(2)
    text = shown(stream)
    if is_live:
        # The last character can be a partial block, if half of the width is no whole number.
        filled = "█+[▏▎▍▌▋▊▉]?" if encoding.startswith("utf") else "#+[1-9]?"
        assert re.search(rf"\r *50%\|{filled} *\| 2/4 \[", text)
        assert text.endswith(f", {note}]\n")
    else:
        assert text.startswith("2/4 in 0s - ")
        assert text.endswith(f" - {note}\n")


@pytest.mark.parametrize("errors", ["replace", "ignore", "surrogateescape"])
def test_a_bar_is_ascii_if_the_output_replaces_characters(errors, monkeypatch):
    stream = encoded("ascii", errors)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    with progress_bar(4, "done") as advance:
        advance(4)
    assert re.search(r"100%\|#+\| 4/4 \[", shown(stream))


def test_an_output_without_an_encoding_gets_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", AsciiOnly())
    say("é…")
    assert sys.stdout.text == "\\xe9...\n"


def test_a_logger_gets_the_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdout", WriteOnly())
    say("first")
    say("second", end="")
    assert sys.stdout.text == "first\nsecond"


def test_is_terminal_asks_isatty(monkeypatch):
    for says, expected in ((lambda: True, True), (lambda: False, False), (lambda: 1 / 0, False)):
        monkeypatch.setattr(sys.stdout, "isatty", says)
        assert is_terminal() is expected


def test_ctrl_c_while_printing_is_raised(monkeypatch):
    class Interrupted(WriteOnly):
        def write(self, text):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        say("text")


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(ENCODINGS))
def test_printable_text_can_be_encoded_and_is_the_text_where_that_can(text, encoding):
    before = sys.stdout
    sys.stdout = encoded(encoding)
    try:
        result = printable(text)
    finally:
        sys.stdout = before
    result.encode(encoding)
    try:
        text.encode(encoding)
    except UnicodeError:
        assert result != text
    else:
        assert result == text


NAMES = ["日本", "caf\udce9", "W" * 60]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_results_can_be_printed(encoding, rng, monkeypatch):
    evaluation = Evaluation.from_predictions(NAMES, NAMES[::-1])
    images = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    images[1] = images[0]
    found = audit(images, NAMES, splits=["tr\udce9in", "test", "\x1b[31m"])
    stream = encoded(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    print(evaluation, found, sep="\n")
    text = shown(stream)
    assert "copies with different labels: 1 pair" in text
    assert "3 samples, 3 classes" in text
    assert ("日本" in text) == (encoding in ("shift_jis", "utf-8", "utf-16"))
    assert "\x1b" not in text


def test_errors_can_be_printed(monkeypatch):
    error = ImageReadError("image 0 (caf\udce9 日.jpg): no such file")
    assert str(error) == r"image 0 (caf\udce9 日.jpg): no such file"
    monkeypatch.setattr(sys, "stdout", encoded("ascii"))
    print(error, InvalidParameterError("name must be short. Got 'é' instead."))
    assert shown(sys.stdout) == (
        r"image 0 (caf\udce9 \u65e5.jpg): no such file "
        r"name must be short. Got '\xe9' instead." + "\n"
    )
    assert str(ImageReadError()) == ""


def test_a_short_name_shows_bytes_that_are_no_text():
    assert short_name("caf\udce9.jpg") == "caf\N{REPLACEMENT CHARACTER}.jpg"
