"""Tests of TrainingHistoryDisplay: lines, the boundary of phases, and figures of many runs."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from report_helpers import HOSTILE, covers, is_inside, small_backbone, text_of
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from transferclf import ConvNet, FeatureStore, TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import TrainingHistoryDisplay
from transferclf.reports.displays.figures import colour_of

mpl.use("Agg")

HISTORY = {
    "loss": [1.0, 0.5, 0.4, 0.35],
    "accuracy": [0.4, 0.7, 0.8, 0.9],
    "val_loss": [1.1, 0.7, 0.6, 0.65],
    "val_accuracy": [0.3, 0.6, 0.7, 0.7],
    "learning_rate": [0.1, 0.1, 0.1, 0.1],
}


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    return (rng.integers(0, 120, (20, 16, 16, 3)) + 100 * y[:, None, None, None]).astype(
        np.uint8
    ), y


@pytest.fixture(scope="module")
def fine_tuned(images):
    """A classifier with a head by L-BFGS and three epochs of the last convolution."""
    classifier = TransferClassifier(
        small_backbone(),
        l2=1e-2,
        trainable_layers="second_conv",
        fine_tune_epochs=3,
        cache=FeatureStore(),
        random_state=0,
    )
    return classifier.fit(*images, validation_data=images)


def points(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def test_the_lines_show_the_history():
    display = TrainingHistoryDisplay.from_histories({"run": HISTORY})
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "accuracy"]
    assert set(display.lines_) == {("run", name) for name in HISTORY if name != "learning_rate"}
    for (_, name), line in display.lines_.items():
        assert points(line) == ([1, 2, 3, 4], HISTORY[name])
        assert line.axes is display.axes_[int("accuracy" in name)]
        assert line.is_dashed() == name.startswith("val_")
        assert line.get_color() == colour_of(0)
    assert display.boundary_lines_ == {}
    assert text_of(display.axes_[1].get_legend()) == ["run", "training", "validation"]
    assert display.axes_[0].get_xlabel() == "epoch"
    assert display.figure_ is display.axes_[0].figure


def test_iterations_and_epochs_have_panels_of_their_own(fine_tuned, images):
    n_head = fine_tuned.n_head_iter_
    assert 0 < n_head < fine_tuned.n_iter_ == n_head + 3
    nested = make_pipeline(FunctionTransformer(), FrozenEstimator(fine_tuned))
    for estimator in (fine_tuned, nested):
        display = TrainingHistoryDisplay.from_estimator(estimator)
        assert [axes.get_xlabel() for axes in display.axes_] == ["iteration", "epoch"] * 2
        assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "", "accuracy", ""]
        entries = set(fine_tuned.history_) - {"learning_rate"}
        assert set(display.lines_) == set(display.head_lines_) == {("small", e) for e in entries}
        for entry in entries:
            values = fine_tuned.history_[entry]
            of_head, of_epochs = (
                lines["small", entry] for lines in (display.head_lines_, display.lines_)
            )
            assert points(of_head) == (list(range(1, n_head + 1)), values[:n_head])
            assert points(of_epochs) == ([1, 2, 3], values[n_head:])
            first = 2 * ("accuracy" in entry)
            assert of_head.axes is display.axes_[first]
            assert of_epochs.axes is display.axes_[first + 1]
            assert of_head.get_color() == of_epochs.get_color()
            assert of_head.is_dashed() == of_epochs.is_dashed() == entry.startswith("val_")
        # Both panels have the same size and the same scale.
        display.figure_.draw_without_rendering()
        for first in (0, 2):
            head, epochs = display.axes_[first : first + 2]
            assert head.get_ylim() == epochs.get_ylim()
            widths = [axes.get_window_extent().width for axes in (head, epochs)]
            assert 0.7 < widths[0] / widths[1] < 1.4
        assert display.boundary_lines_ == {}
        assert text_of(display.axes_[-1].get_legend()) == ["small", "training", "validation"]


def test_a_history_shows_the_end_of_a_head_by_lbfgs(fine_tuned):
    display = TrainingHistoryDisplay.from_histories({"run": fine_tuned.history_})
    assert len(display.head_lines_["run", "loss"].get_xdata()) == fine_tuned.n_head_iter_
    assert display.lines_["run", "loss"].get_xdata().tolist() == [1, 2, 3]


def test_a_head_trained_by_epochs_shares_its_panel_with_fine_tuning():
    by_hand = TrainingHistoryDisplay.from_histories({"run": HISTORY}, boundaries={"run": 3})
    assert by_hand.boundary_lines_["run", "accuracy"].get_xdata()[0] == 3.5


@pytest.mark.parametrize("begin", [0, 4])
def test_one_phase_has_no_boundary(begin):
    display = TrainingHistoryDisplay.from_histories({"run": HISTORY}, boundaries={"run": begin})
    assert display.boundary_lines_ == {}


def test_a_network_from_scratch_has_one_phase(images):
    classifier = TransferClassifier(ConvNet((4,)), image_size=16, epochs=2, random_state=0)
    display = TrainingHistoryDisplay.from_estimator(classifier.fit(*images), name="net")
    assert points(display.lines_["net", "loss"]) == ([1, 2], classifier.history_["loss"])
    assert display.boundary_lines_ == {}
    assert text_of(display.axes_[1].get_legend()) == ["net", "training"]


def test_runs_of_one_kind_each_have_two_panels_and_one_line_each():
    by_iterations = {"loss": [3.0, 2.0], "accuracy": [0.1, 0.2]}
    display = TrainingHistoryDisplay.from_histories({"head": by_iterations, "net": HISTORY})
    loss_of_head, loss_of_net = display.lines_["head", "loss"], display.lines_["net", "loss"]
    assert display.axes_.tolist()[:2] == [loss_of_head.axes, loss_of_net.axes]
    assert points(loss_of_head) == ([1, 2], [3.0, 2.0])
    assert points(loss_of_net) == ([1, 2, 3, 4], HISTORY["loss"])
    assert display.head_lines_ == {}


def test_two_panels_share_the_space_of_given_axes():
    history = {"loss": [3.0, 2.0, 1.0, 0.5], "learning_rate": [0.1]}
    figure, (left, right) = plt.subplots(1, 2)
    display = TrainingHistoryDisplay.from_histories(
        {"run": history}, metrics="loss", ax=right, legend=False
    )
    figure.draw_without_rendering()
    room = right.get_window_extent()
    for axes in display.axes_:
        box = axes.get_window_extent()
        assert room.x0 - 1 <= box.x0 < box.x1 <= room.x1 + 1
    boxes = [axes.get_window_extent() for axes in display.axes_]
    assert boxes[0].x1 < boxes[1].x0
    assert not left.lines
    assert points(display.head_lines_["run", "loss"]) == ([1, 2, 3], [3.0, 2.0, 1.0])
    assert points(display.lines_["run", "loss"]) == ([1], [0.5])


def test_validation_of_fine_tuning_is_in_one_panel():
    history = {"loss": [3.0, 2.0, 1.0], "val_loss": [1.5], "learning_rate": [0.1, 0.1]}
    display = TrainingHistoryDisplay.from_histories({"run": history}, metrics="loss")
    assert points(display.lines_["run", "val_loss"]) == ([2], [1.5])
    assert list(display.head_lines_) == [("run", "loss")]


def test_a_shorter_validation_ends_with_the_training():
    history = {"loss": [3.0, 2.0, 1.0], "val_loss": [2.5, 1.5]}
    display = TrainingHistoryDisplay.from_histories({"run": history}, metrics="loss")
    assert points(display.lines_["run", "val_loss"]) == ([2, 3], [2.5, 1.5])


def test_twelve_runs_differ_and_the_legend_is_beside_the_data():
    runs = {f"run {n}": {name: values * 8 for name, values in HISTORY.items()} for n in range(12)}
    display = TrainingHistoryDisplay.from_histories(runs)
    styles = {
        (line.get_color(), line.get_marker())
        for (_, name), line in display.lines_.items()
        if name == "loss"
    }
    assert len(styles) == 12
    legend = display.axes_[1].get_legend()
    assert text_of(legend)[:12] == list(runs)
    assert not covers(legend, display.axes_[1])
    assert is_inside(legend, display.figure_)


def test_names_are_shown_as_they_are():
    display = TrainingHistoryDisplay.from_histories(dict.fromkeys(HOSTILE, HISTORY))
    display.figure_.canvas.draw()
    shown = text_of(display.axes_[1].get_legend())
    assert shown[:4] == [HOSTILE[0], HOSTILE[1], "_hidden", "two lines"]
    assert len(shown[4]) == 28


def test_it_draws_into_given_axes():
    figure, axes = plt.subplots(1, 2)
    display = TrainingHistoryDisplay.from_histories({"run": HISTORY}, ax=axes, linewidth=3)
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    assert {line.get_linewidth() for line in display.lines_.values()} == {3}
    alone = TrainingHistoryDisplay.from_histories(
        {"run": HISTORY}, ax=axes[0], metrics=("accuracy",), legend=False
    )
    assert list(alone.lines_) == [("run", "accuracy"), ("run", "val_accuracy")]
    assert alone.axes_[0].get_legend() is None
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(InvalidParameterError, match="each of the 2 panels. Got 1"):
        TrainingHistoryDisplay.from_histories({"run": HISTORY}, ax=axes[0])


def test_an_empty_history_gives_empty_panels():
    display = TrainingHistoryDisplay.from_histories({"run": {"loss": []}})
    assert display.lines_ == {}
    assert [axes.get_xlabel() for axes in display.axes_] == ["epoch", "epoch"]


def test_nonfinite_losses_leave_a_gap():
    display = TrainingHistoryDisplay.from_histories({"run": {"loss": [1.0, np.nan, np.inf]}})
    display.figure_.canvas.draw()
    assert len(display.lines_["run", "loss"].get_xdata()) == 3


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ({}, "at least one run"),
        (None, "at least one run"),
        ({"run": {"accuracy": [1.0]}}, "one named 'loss'. Got \\['accuracy'\\]"),
        ({"run": {"loss": 1.0}}, "lists of numbers"),
        ({"run": [1.0]}, "'run' must be a history or a fitted estimator. Got list"),
        ({"run": LogisticRegression()}, "must be a TransferClassifier.* Got LogisticRegression"),
    ],
)
def test_wrong_histories_raise_an_error(histories, message):
    with pytest.raises(InvalidParameterError, match=message):
        TrainingHistoryDisplay.from_histories(histories)


def test_estimators_without_a_history_raise_an_error():
    with pytest.raises(NotFittedError):
        TrainingHistoryDisplay.from_estimator(TransferClassifier())
    pipeline = make_pipeline(FunctionTransformer(), LogisticRegression())
    with pytest.raises(InvalidParameterError, match="Got Pipeline with LogisticRegression inside"):
        TrainingHistoryDisplay.from_estimator(pipeline)
    with pytest.raises(InvalidParameterError, match="metrics must be some of"):
        TrainingHistoryDisplay.from_histories({"run": HISTORY}, metrics=("f1",))


def test_other_entries_of_a_history_can_be_drawn():
    history = HISTORY | {"f1": [0.1, 0.2, 0.3, 0.4]}
    display = TrainingHistoryDisplay.from_histories({"run": history})
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "accuracy"]
    display = TrainingHistoryDisplay.from_histories({"run": history}, metrics="f1")
    assert points(display.lines_["run", "f1"]) == ([1, 2, 3, 4], history["f1"])


def test_a_learning_rate_named_lr_is_not_drawn():
    history = {"loss": [1.0, 0.5], "lr": [0.1, 0.1]}
    display = TrainingHistoryDisplay.from_histories({"run": history})
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "accuracy"]
