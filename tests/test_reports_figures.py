"""Tests of the parts of all displays: late imports, names as text, colours and markers."""

import itertools
import subprocess
import sys

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_helpers import HOSTILE

from transferclf.exceptions import InvalidParameterError
from transferclf.reports import (
    ClassBalanceDisplay,
    EmbeddingDisplay,
    ImageGridDisplay,
    TrainingHistoryDisplay,
)
from transferclf.reports.displays.figures import COLOURS, axes_for, colour_of, marker_of, plain
from transferclf.reports.names import short_name

mpl.use("Agg")

DRAW = {
    "history": "TrainingHistoryDisplay.from_histories({'a': {'loss': [1.0], 'accuracy': [0.5]}})",
    "embedding": "EmbeddingDisplay.from_features([[0, 1], [1, 0]])",
    "grid": "ImageGridDisplay.from_predictions([[[0, 255]]] * 2, [0, 1], [1, 0], kind='random')",
    "balance": "ClassBalanceDisplay.from_targets([0, 1])",
}


def run(code):
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_drawing_imports_matplotlib():
    told = run(
        "import sys\n"
        "from transferclf.reports import ClassBalanceDisplay, EmbeddingDisplay\n"
        "from transferclf.reports import ImageGridDisplay, TrainingHistoryDisplay, evaluate\n"
        "print('matplotlib' in sys.modules, 'tensorflow' in sys.modules)\n"
        "sys.modules['matplotlib'] = None  # as if it were not installed\n"
        "def show(draw):\n"
        "    try: draw()\n"
        "    except ImportError as error: print(error)\n"
        + "".join(f"show(lambda: {code})\n" for code in DRAW.values())
    )
    first, *others = told.splitlines()
    assert first == "False False"
    assert len(others) == len(DRAW)
    assert all(
        'extra "reports" brings it: pip install jinja2 matplotlib pandas' in line for line in others
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: TrainingHistoryDisplay.from_histories({"a": {"loss": [1.0]}}, ax=ax),
        lambda ax: EmbeddingDisplay.from_features([[0, 1], [1, 0]], ax=ax),
        lambda ax: ClassBalanceDisplay.from_targets([0, 1], ax=ax),
        lambda ax: ImageGridDisplay.from_predictions(
            [[[0, 255]]] * 2, [0, 1], [1, 0], kind="random", ax=ax
        ),
    ],
)
def test_wrong_axes_raise_an_error(draw):
    with pytest.raises(InvalidParameterError, match="ax must be None or"):
        draw("axes")


def test_new_axes_get_a_new_figure_and_given_axes_keep_theirs():
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    figure, axes = axes_for()
    assert axes.figure is figure
    assert len(plt.get_fignums()) == len(before) + 1
    assert axes_for(axes) == (figure, axes)
    assert len(plt.get_fignums()) == len(before) + 1
    plt.close(figure)


def test_64_classes_have_different_colours_and_markers():
    assert len(set(COLOURS)) == 8
    pairs = [(colour_of(number), marker_of(number)) for number in range(64)]
    assert len(set(pairs)) == 64
    for (colour, marker), (next_colour, next_marker) in itertools.pairwise(pairs):
        assert colour != next_colour
        assert marker != next_marker


@settings(max_examples=40, deadline=None)
@given(st.text() | st.integers() | st.booleans() | st.floats(), st.integers(4, 40))
def test_a_short_name_is_one_line_of_what_was_there(name, width):
    short = short_name(name, width)
    assert len(short) <= width
    assert short.isprintable()
    letters = iter(str(name).replace("…", ""))
    assert all(letter in letters for letter in short.replace("…", "") if letter != " ")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("cat", "cat"),
        (True, "True"),
        (7, "7"),
        ("two\nlines\x00", "two lines"),
        ("", ""),
        ("a species of bird, male", "a specie…ale"),
    ],
)
def test_short_names_equal_the_examples(name, short):
    assert short_name(name, 12) == short


@pytest.mark.parametrize("name", [*HOSTILE, "$", "$$", "\\$x$", "a\\$b", "$x$ and \\$y\\$"])
def test_no_name_becomes_a_formula(name):
    from matplotlib.cbook import is_math_text

    assert not is_math_text(plain(name, 300))
    assert plain(name, 300).replace(r"\$", "$") == short_name(name, 300)
