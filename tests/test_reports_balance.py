"""Tests of ClassBalanceDisplay: its bars show the counts."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from report_helpers import HOSTILE, covers, is_inside, text_of

from transferclf.exceptions import InvalidParameterError
from transferclf.reports import ClassBalanceDisplay

mpl.use("Agg")

SPLITS = {"train": ["cat", "dog", "cat", "bee", "cat"], "test": ["dog", "dog"]}


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


def lengths(bars, horizontal=False):
    return [bar.get_width() if horizontal else bar.get_height() for bar in bars]


def names(axis):
    return [label.get_text().replace(r"\$", "$") for label in axis.get_ticklabels()]


def test_the_bars_show_the_counts():
    display = ClassBalanceDisplay.from_targets(SPLITS)
    assert display.classes_shown_ == ["bee", "cat", "dog"]
    assert lengths(display.bars_["train"]) == [1, 3, 1]
    assert lengths(display.bars_["test"]) == [0, 0, 2]
    assert names(display.ax_.xaxis) == ["bee", "cat", "dog"]
    assert [text.get_text() for text in display.ax_.texts] == ["1", "3", "1", "0", "0", "2"]
    assert text_of(display.ax_.get_legend()) == ["train", "test"]
    assert display.ax_.get_ylabel() == "images"


def test_bars_of_one_class_stand_side_by_side():
    display = ClassBalanceDisplay.from_targets(SPLITS)
    for place, (first, second) in enumerate(zip(*display.bars_.values(), strict=True)):
        assert first.get_x() + first.get_width() == pytest.approx(second.get_x())
        assert first.get_x() + first.get_width() == pytest.approx(place)


def test_bars_can_show_shares_in_order_of_counts():
    display = ClassBalanceDisplay.from_targets(SPLITS, normalize=True, order="count")
    assert display.classes_shown_ == ["cat", "dog", "bee"]
    assert lengths(display.bars_["train"]) == pytest.approx([0.6, 0.2, 0.2])
    assert lengths(display.bars_["test"]) == pytest.approx([0, 1, 0])
    assert display.ax_.texts[0].get_text() == "60.0%"


def test_one_set_of_labels_has_no_legend():
    display = ClassBalanceDisplay.from_targets(np.array([True, False, True]))
    assert lengths(display.bars_[""]) == [1, 2]
    assert names(display.ax_.xaxis) == ["False", "True"]
    assert display.ax_.get_legend() is None


def test_classes_without_images_can_be_shown():
    display = ClassBalanceDisplay.from_targets([2, 2, 0], classes=[2, 1, 0])
    assert display.classes_shown_ == [2, 1, 0]
    assert lengths(display.bars_[""]) == [2, 0, 1]
    empty = ClassBalanceDisplay.from_targets({"train": [1], "test": []}, normalize=True)
    assert lengths(empty.bars_["test"]) == [0]


def test_thirty_classes_are_horizontal_bars_without_overlap(rng):
    classes = [f"a kind of animal, number {number}" for number in range(30)]
    splits = {name: rng.choice(classes, 300) for name in ("train", "valid", "test")}
    display = ClassBalanceDisplay.from_targets(splits, classes=classes)
    for name, y in splits.items():
        counts = [int((y == label).sum()) for label in classes]
        assert lengths(display.bars_[name], horizontal=True) == counts
    assert names(display.ax_.yaxis) == classes
    assert display.ax_.yaxis_inverted()
    display.figure_.draw_without_rendering()
    boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    for upper, lower in itertools.pairwise(boxes):
        assert not upper.overlaps(lower)
    assert not covers(display.ax_.get_legend(), display.ax_)
    assert is_inside(display.ax_.get_legend(), display.figure_)
    assert len(display.ax_.texts) == 0


def test_names_are_shown_as_they_are():
    display = ClassBalanceDisplay.from_targets({"$a$": HOSTILE, "_b": HOSTILE}, classes=HOSTILE)
    display.figure_.canvas.draw()
    shown = names(display.ax_.yaxis)
    assert shown[:4] == [HOSTILE[0], HOSTILE[1], "_hidden", "two lines"]
    assert len(shown[4]) == 28
    assert text_of(display.ax_.get_legend()) == ["$a$", "_b"]


def test_it_draws_into_given_axes():
    figure, axes = plt.subplots()
    display = ClassBalanceDisplay.from_targets([1], ax=axes, horizontal=True, color="red")
    assert display.ax_ is axes
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert lengths(display.bars_[""], horizontal=True) == [1]
    assert display.bars_[""][0].get_facecolor() == (1, 0, 0, 1)
    assert display.plot(ax=axes) is display


def test_wrong_targets_raise_an_error():
    for targets in ([], {}, {"train": []}):
        with pytest.raises(InvalidParameterError, match="Got none"):
            ClassBalanceDisplay.from_targets(targets)
    with pytest.raises(InvalidParameterError, match=r"classes \[0, 1\], at least one. Got \[7\]"):
        ClassBalanceDisplay.from_targets([0, 7], classes=[0, 1])
    with pytest.raises(InvalidParameterError, match="order must be one of"):
        ClassBalanceDisplay.from_targets([0, 1], order="size")
    with pytest.raises(ValueError, match="dim 3"):
        ClassBalanceDisplay.from_targets(np.zeros((2, 2, 2)))


# Several labels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda table: pd.DataFrame(table, columns=["sea", "sun", "tree"]),
        lambda table: [
            {name for name, there in zip(["sea", "sun", "tree"], row, strict=True) if there}
            for row in table
        ],
    ],
    ids=["frame", "sets"],
)
def test_each_image_counts_for_each_of_its_labels(form):
    tables = {"train": np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]]), "test": np.eye(3)}
    display = ClassBalanceDisplay.from_targets({k: form(table) for k, table in tables.items()})
    assert list(display.classes) == ["sea", "sun", "tree"]
    assert display.counts["train"].tolist() == [1, 3, 1]
    assert display.counts["test"].tolist() == [1, 1, 1]
    assert [bar.get_height() for bar in display.bars_["train"]] == [1, 3, 1]


def test_columns_of_an_indicator_have_the_names_that_are_given():
    table = np.array([[1, 1], [0, 1]])
    display = ClassBalanceDisplay.from_targets(table, classes=["sea", "sun"], order="count")
    assert display.classes_shown_ == ["sun", "sea"]
    for wrong in ([[1, 2]], [[1, np.nan]], np.eye(3)):
        with pytest.raises(InvalidParameterError, match="targets: y (must|has no)"):
            ClassBalanceDisplay.from_targets(wrong, classes=["sea", "sun"])
