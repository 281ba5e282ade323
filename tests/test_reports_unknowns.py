"""Tests of the measures and the display of unknown images."""

import json

import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from transferclf import TransferClassifier, UnknownRejector
from transferclf.estimators import strangeness
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import (
    ImageGridDisplay,
    UnknownDisplay,
    UnknownEvaluation,
    evaluate,
    evaluate_unknowns,
    prediction_table,
    report,
    run_experiments,
)

N = 60
KINDS = np.arange(N) % 3
LABELS = np.array(["flat", "steep", "noise"])[KINDS]


@pytest.fixture(autouse=True, scope="module")
def _no_covariance_of_many_features():
    before, strangeness.MAX_FEATURES = strangeness.MAX_FEATURES, 64
    yield
    strangeness.MAX_FEATURES = before


@pytest.fixture(scope="module")
def images():
    return striped_images(N, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(images):
    learned = np.flatnonzero((KINDS < 2) & (np.arange(N) < 45))
    classifier = TransferClassifier(image_size=32, l2=0.1)
    rejector = UnknownRejector(classifier, coverage=0.8, random_state=0)
    return rejector.fit(images[learned], LABELS[learned])


def test_measures_are_those_of_scikit_learn_and_by_hand(fitted, images):
    found = evaluate_unknowns(fitted, images[45:], LABELS[45:])
    scores, predicted = fitted.score_samples(images[45:]), fitted.predict(images[45:])
    is_known = KINDS[45:] < 2
    assert (found.n_known, found.n_unknown) == (10, 5)
    np.testing.assert_array_equal(found.y_score, scores)
    np.testing.assert_array_equal(found.y_pred, predicted)
    assert found.auroc == roc_auc_score(is_known, scores)
    assert found.coverage == np.mean(predicted[is_known] != "unknown")
    assert found.rejected == np.mean(predicted[~is_known] == "unknown")
    assert found.accuracy_known == np.mean(predicted[is_known] == LABELS[45:][is_known])
    named = np.where(is_known, LABELS[45:], "unknown")
    assert found.accuracy == np.mean(predicted == named) == fitted.score(images[45:], named)


@pytest.mark.parametrize("wrap", [lambda fitted: fitted, FrozenEstimator], ids=["alone", "frozen"])
def test_evaluate_takes_a_rejector_and_predicts_once(fitted, images, wrap, monkeypatch):
    calls, applied = [], TransferClassifier._applied
    monkeypatch.setattr(
        TransferClassifier, "_applied", lambda *given: calls.append(1) or applied(*given)
    )
    found = evaluate(wrap(fitted), images, LABELS)
    assert calls == [1]
    assert type(found) is UnknownEvaluation
    assert found.n_unknown == N // 3


def test_measures_of_predictions_have_the_values_by_hand():
    found = UnknownEvaluation.from_predictions(
        [0, 1, 1, 5, 6, -1], [0, 0, -1, -1, 1, -1], [5, 4, 1, 2, 3, 0],
        classes=[0, 1], unknown_label=-1,
    )  # fmt: skip
    assert (found.n_known, found.n_unknown) == (3, 3)
    assert found.auroc == pytest.approx(7 / 9)
    assert found.fpr95 == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(2 / 3)
    assert found.rejected == pytest.approx(2 / 3)
    assert found.accuracy_known == pytest.approx(1 / 3)
    assert found.accuracy_kept == 0.5
    assert found.accuracy == 0.5
    text = str(found)
    assert "3 known images, 3 unknown ones" in text
    assert "0.778" in text
    assert json.loads(json.dumps(found.to_dict()))["accuracy"] == 0.5
    assert json.loads(json.dumps(found.to_dict(per_sample=True)))["y_pred"][4] == 1


def test_a_weight_of_two_is_the_image_twice():
    given = {"classes": ["a"], "unknown_label": "?"}
    weighted = UnknownEvaluation.from_predictions(
        ["a", "b", "a"], ["a", "?", "?"], [3, 1, 2], sample_weight=[2, 3, 1], **given
    )
    twice = UnknownEvaluation.from_predictions(
        ["a", "a", "b", "b", "b", "a"], ["a", "a", "?", "?", "?", "?"], [3, 3, 1, 1, 1, 2], **given
    )
    for name in ("auroc", "fpr95", "coverage", "rejected", "accuracy", "accuracy_kept"):
        assert weighted[name] == pytest.approx(twice[name]), name


def test_measures_that_need_both_sorts_of_images_are_none(fitted, images):
    known = evaluate_unknowns(fitted, images[:2], ["flat", "steep"])
    assert (known.auroc, known.fpr95, known.rejected) == (None, None, None)
    assert "rejected" not in str(known)
    unknown = evaluate_unknowns(fitted, images[2:3], ["?"])
    assert (unknown.auroc, unknown.coverage, unknown.accuracy_kept) == (None, None, None)
    assert unknown.n_unknown == 1


@pytest.mark.parametrize(
    ("estimator", "y", "reason"),
    [
        (TransferClassifier(), ["a"], "estimator must be an UnknownRejector"),
        (None, ["a", "b"], "one label per image. Got 2 for 1 images"),
    ],
)
def test_wrong_input_is_an_error(fitted, images, estimator, y, reason):
    with pytest.raises(ValueError, match=reason):
        evaluate_unknowns(estimator or fitted, images[:1], y)


def test_a_table_of_predictions_has_rejected_images_without_a_probability(fitted, images):
    X = images[:12]  # of every kind
    table = prediction_table(fitted, X, top_k=2)
    np.testing.assert_array_equal(table["label"], fitted.predict(X))
    np.testing.assert_array_equal(table["normality"], fitted.score_samples(X))
    is_rejected = (table["label"] == fitted.unknown_label_).to_numpy()
    np.testing.assert_array_equal(table["probability"].isna(), is_rejected)
    best = fitted.classes_[fitted.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(table["label_2"][is_rejected], best[is_rejected])
    assert is_rejected.any()
    assert not is_rejected.all()


def test_a_page_about_a_rejector_names_what_to_pass(fitted, images, tmp_path):
    with pytest.raises(InvalidParameterError, match=r"pass that of the rejector, rejector\.est"):
        report(fitted, images[:9], LABELS[:9], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(InvalidParameterError, match="ImageGridDisplay is about a classifier"):
        ImageGridDisplay.from_estimator(fitted, images[:9], LABELS[:9])


def test_rejected_images_of_known_classes_count_as_wrong_in_experiments(fitted, images, tmp_path):
    known = np.flatnonzero(KINDS < 2)
    runs = {"rejector": clone(fitted)}
    table = run_experiments(runs, images[known], LABELS[known], cv=2, directory=tmp_path)
    assert table["error"].tolist() == [""]
    assert table["mean_accuracy"][0] < 0.95  # a fifth of the known images is rejected


def test_the_display_shows_shares_of_both_sorts_and_the_threshold(fitted, images):
    display = UnknownDisplay.from_estimator(fitted, images, LABELS, bins=10)
    assert set(display.bars_) == {"known", "unknown"}
    for bars in display.bars_.values():
        assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
        assert len(bars) == 10
    assert display.line_.get_xdata()[0] == fitted.offset_
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["known (40)", "unknown (20)", "threshold"]
    assert display.figure_ is display.ax_.figure


def test_the_display_draws_into_given_axes_without_a_threshold():
    from matplotlib import pyplot

    ax = pyplot.subplots()[1]
    display = UnknownDisplay.from_predictions([True, True], [1.0, 2.0], ax=ax, color="black")
    assert display.ax_ is ax
    assert [*display.bars_] == ["known"]
    assert display.line_ is None
    assert display.bars_["known"][0].get_facecolor()[:3] == (0, 0, 0)


@pytest.mark.parametrize("scores", [[1.0], [1.0, np.nan], []])
def test_scores_that_cannot_be_drawn_are_refused(scores):
    with pytest.raises(InvalidParameterError, match="one finite number for each image"):
        UnknownDisplay.from_predictions([True, False][: len(scores) + 1], scores)
