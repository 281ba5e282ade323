"""on_error="skip": a fit and its results without images that cannot be used; no row is shifted."""

import warnings
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_helpers import striped_images
from PIL import Image
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from transferclf import (
    CNNFeatureExtractor,
    ConvNet,
    FeatureStore,
    TransferClassifier,
    TransferRegressor,
    UnknownRejector,
    load_model,
    save_model,
)
from transferclf.exceptions import ImageError, InvalidParameterError, TransferclfWarning
from transferclf.features.extraction import _Extraction
from transferclf.images import ImageSource
from transferclf.images.inputs import look_over
from transferclf.persistence.heads import head_facts
from transferclf.reports import audit, evaluate

N = 24
IMAGES = striped_images(N, np.random.default_rng(5))
LABELS = np.array(["across", "down", "noise"])[np.arange(N) % 3]
NUMBERS = IMAGES.mean(axis=(1, 2, 3)) + np.arange(N)
KINDS = ("missing", "damaged", "text", "NaN", "None")
STORE = FeatureStore()

classifier = partial(
    TransferClassifier, image_size=32, random_state=0, on_error="skip", cache=STORE, l2=0.1
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the paths of all images, and of a copy of each that is spoiled."""
    folder = tmp_path_factory.mktemp("images")
    sound, damaged = [], []
    for number, image in enumerate(IMAGES):
        path, broken = folder / f"{number}.png", folder / f"{number}_damaged.png"
        Image.fromarray(image).save(path)
        content = path.read_bytes()
        broken.write_bytes(content[: len(content) * 2 // 3])  # the header is fine
        sound.append(str(path))
        damaged.append(str(broken))
    (folder / "text.png").write_text("no image")
    return sound, damaged, folder


def spoiled(files, kinds):
    """Return the paths, some of them replaced; `kinds` are the faults by positions."""
    sound, damaged, folder = files
    made = {
        "missing": lambda i: str(folder / f"{i}_missing.png"),
        "damaged": lambda i: damaged[i],
        "text": lambda i: str(folder / "text.png"),
        "NaN": lambda i: np.full((32, 32), np.nan),
        "None": lambda i: None,
    }
    return [made[kinds[i]](i) if i in kinds else path for i, path in enumerate(sound)]


def without(values, bad):
    keep = [i for i in range(len(values)) if i not in bad]
    return values[keep] if hasattr(values, "shape") else [values[i] for i in keep]


def quietly(function, *arguments, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferclfWarning)
        return function(*arguments, **named)


def warned(function, *arguments, **named):
    """Return the result, and the text of the only warning of this package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments, **named)
    (text,) = [str(each.message) for each in caught if each.category is TransferclfWarning]
    return result, text


def assert_same(fitted, alone, bad):
    """Check that a fit has learned the same as one on the other images alone."""
    np.testing.assert_array_equal(fitted.skipped_indices_, sorted(bad))
    assert fitted.skipped_indices_.dtype.kind == "i"
    positions = without(np.arange(N), bad)
    np.testing.assert_array_equal(fitted.sample_indices_, positions[alone.sample_indices_])
    assert fitted.history_ == alone.history_
    assert fitted.l2_ == alone.l2_
    assert_same_head(fitted, alone)


def assert_same_head(fitted, alone):
    arrays, of_alone = {}, {}
    assert head_facts(fitted.head_, arrays) == head_facts(alone.head_, of_alone)
    for name, array in of_alone.items():
        np.testing.assert_array_equal(arrays[name], array)


BAD = {3: "missing", 8: "damaged", 9: "damaged", 14: "text", 20: "NaN", 21: "None"}


@given(st.dictionaries(st.integers(0, N - 1), st.sampled_from(KINDS), max_size=N))
@settings(max_examples=8)
def test_any_images_at_fault_are_as_if_they_had_never_been_there(files, bad):
    X, weights = spoiled(files, bad), np.arange(1.0, N + 1)
    left = set(without(LABELS, bad).tolist())
    if len(left) < 3:
        with pytest.raises(ImageError) as caught:
            classifier().fit(X, LABELS)
        assert caught.value.indices == sorted(bad)
        return
    fitted = quietly(classifier().fit, X, LABELS, weights)
    alone = classifier(on_error="raise").fit(without(files[0], bad), without(LABELS, bad),
                                             without(weights, bad))  # fmt: skip
    assert_same(fitted, alone, bad)
    np.testing.assert_array_equal(fitted.sample_indices_, without(np.arange(N), bad))
    probabilities = quietly(fitted.predict_proba, X)
    assert np.isnan(probabilities[sorted(bad)]).all()
    np.testing.assert_array_equal(without(probabilities, bad),
                                  alone.predict_proba(without(files[0], bad)))  # fmt: skip


TUNED = {"trainable_layers": "top", "fine_tune_epochs": 1}
OPTIONS = {
    "no store": {"cache": None},
    "held out": {
        "hidden_units": (4,),
        "epochs": 2,
        "early_stopping": True,
        "validation_fraction": 0.25,
    },
    "views": {"augmentation": "light"},
    "oversampled": {"oversample": True},
    "fine-tuned": TUNED | {"l2": "auto"},
    "varied afresh": {
        "trainable_layers": "all",
        "fine_tune_epochs": 1,
        "augmentation": "light",
        "soup": 1.0,
    },
    "from scratch": {
        "backbone": ConvNet((2,), dense_units=()),
        "image_size": 8,
        "epochs": 2,
        "l2": "auto",
    },
    "chosen layers": {"trainable_layers": "auto", "fine_tune_epochs": 1},
}
SLOW = ("fine-tuned", "varied afresh", "from scratch", "chosen layers")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in OPTIONS]
)
def test_faults_that_show_late_are_skipped_in_every_way_of_training(case, files):
    # Only decoding finds these. A RandomState is drawn from once, however often images are read.
    bad = dict.fromkeys([1, 2, 13, 22], "damaged")
    options = OPTIONS[case]
    fits = [classifier(**options, random_state=np.random.RandomState(3)) for _ in range(2)]
    fitted = quietly(fits[0].fit, spoiled(files, bad), LABELS)
    alone = quietly(fits[1].fit, without(files[0], bad), without(LABELS, bad))
    assert_same(fitted, alone, bad)


def test_warm_start_goes_on_from_the_fit_before(files):
    bad = {4: "damaged", 5: "missing"}
    options = {"hidden_units": (4,), "epochs": 2, "warm_start": True}
    pair = [classifier(**options).fit(files[0], LABELS) for _ in range(2)]
    fitted = quietly(pair[0].fit, spoiled(files, bad), LABELS)
    assert_same(fitted, pair[1].fit(without(files[0], bad), without(LABELS, bad)), bad)


def test_partial_fit_skips_too(files):
    bad = {2: "damaged", 7: "missing"}
    pair = [classifier(optimizer="adam", epochs=1) for _ in range(2)]
    for part in (slice(0, 12), slice(12, N), slice(0, 12)):
        X = spoiled(files, bad)[part]
        there = {i - part.start: kind for i, kind in bad.items() if part.start <= i < part.stop}
        weights = np.arange(1.0, len(X) + 1)
        quietly(pair[0].partial_fit, X, LABELS[part], np.unique(LABELS), weights)
        quietly(pair[1].partial_fit, without(files[0][part], there), without(LABELS[part], there),
                np.unique(LABELS), without(weights, there))  # fmt: skip
        np.testing.assert_array_equal(pair[0].skipped_indices_, sorted(there))
    assert_same_head(*pair)


@pytest.mark.parametrize("make", [np.asarray, list, pd.Series])
def test_targets_of_any_type_are_cut(make, files):
    bad = {0: "damaged", 23: "missing"}
    fitted = quietly(classifier().fit, spoiled(files, bad), make(LABELS))
    alone = classifier().fit(without(files[0], bad), without(LABELS, bad))
    assert_same(fitted, alone, bad)


def test_arrays_with_nan_are_skipped_without_a_copy():
    X = IMAGES.astype(np.float32)
    X[[5, 11]] = np.nan
    fitted, text = warned(classifier().fit, X, LABELS)
    assert "2 of 24 images of X are left out:" in text
    assert_same(fitted, classifier().fit(without(X, {5, 11}), without(LABELS, {5, 11})), {5, 11})
    source = look_over(X)
    assert source[source.sound()].items is X


def test_several_labels_and_their_score(files):
    bad = {0: "damaged", 7: "missing"}
    table = np.stack([np.arange(N) % 3 == 0, np.arange(N) % 2 == 0], axis=1).astype(int)
    fitted = quietly(classifier().fit, spoiled(files, bad), table)
    alone = classifier().fit(without(files[0], bad), without(table, bad))
    assert_same(fitted, alone, bad)
    score = quietly(fitted.score, spoiled(files, bad), table)
    assert score == alone.score(without(files[0], bad), without(table, bad))
    assert np.isnan(quietly(fitted.decision_function, spoiled(files, bad))[[0, 7]]).all()


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_regressor_skips_and_predicts_nan(n_outputs, files):
    y = np.stack([NUMBERS, -NUMBERS], axis=1) if n_outputs == 2 else NUMBERS
    weights = np.linspace(1, 2, N)
    regressor = TransferRegressor(image_size=32, on_error="skip", cache=STORE)
    fitted = quietly(regressor.fit, spoiled(files, BAD), y, weights)
    sound, rest = without(files[0], BAD), without(y, BAD)
    alone = clone(regressor).fit(sound, rest, without(weights, BAD))
    assert_same(fitted, alone, BAD)
    predicted, text = warned(fitted.predict, spoiled(files, BAD))
    assert "6 of 24 images cannot be used, and get NaN:" in text
    assert predicted.shape == y.shape
    assert np.isnan(predicted[list(BAD)]).all()
    np.testing.assert_array_equal(without(predicted, BAD), alone.predict(sound))
    score = quietly(fitted.score, spoiled(files, BAD), y, weights)
    assert score == alone.score(sound, rest, without(weights, BAD))


def test_one_warning_names_all_skipped_images(files):
    X = spoiled(files, BAD)
    _, text = warned(classifier().fit, X, LABELS)
    assert text.startswith("6 of 24 images of X are left out:\n")
    for position in BAD:
        assert f" {position}" in text
    assert f"3 ({X[3]})" in text
    assert "skipped_indices_" in text
    _, text = warned(classifier(hidden_units=(2,), epochs=1).fit, X, LABELS,
                     validation_data=(X, LABELS))  # fmt: skip
    assert "6 of 24 images of X are left out:" in text
    assert "6 of 24 images of validation_data are left out:" in text


def test_validation_data_are_cut_with_their_targets(files):
    bad = {0: "damaged", 5: "damaged", 7: "missing"}
    options = {"hidden_units": (4,), "epochs": 2}
    sound, rest = without(files[0], bad), without(LABELS, bad)
    fitted = quietly(classifier(**options).fit, files[0], LABELS,
                     validation_data=(spoiled(files, bad), LABELS))  # fmt: skip
    alone = classifier(**options).fit(files[0], LABELS, validation_data=(sound, rest))
    assert_same(fitted, alone, {})


def test_features_of_images_at_fault_are_nan(files):
    extractor = CNNFeatureExtractor(image_size=32, on_error="skip", cache=STORE)
    bad = BAD | {0: "damaged", 1: "missing"}
    with pytest.warns(TransferclfWarning, match="are left out"):
        extractor.fit(spoiled(files, bad))
    # Only the first images were decoded.
    assert extractor.skipped_indices_.tolist() == [0, 1, 3, 20, 21]
    features, text = warned(extractor.transform, spoiled(files, bad))
    assert "8 of 24 images cannot be used, and get NaN:" in text
    assert features.dtype == np.float32
    assert np.isnan(features[list(bad)]).all()
    alone = CNNFeatureExtractor(image_size=32, cache=STORE).fit_transform(without(files[0], bad))
    np.testing.assert_array_equal(without(features, bad), alone)
    only_bad = quietly(extractor.transform, spoiled(files, bad)[:2])
    assert only_bad.shape == (2, alone.shape[1])
    assert np.isnan(only_bad).all()


@pytest.fixture(scope="module")
def fitted(files):
    return classifier().fit(files[0], LABELS)


def test_predict_names_the_images_that_have_no_label(fitted, files):
    with pytest.raises(ImageError, match="`predict` has no label for them") as caught:
        fitted.predict(spoiled(files, BAD))
    assert caught.value.indices == list(BAD)
    np.testing.assert_array_equal(fitted.predict(files[0]), clone(fitted).set_params(
        on_error="raise").fit(files[0], LABELS).predict(files[0]))  # fmt: skip


def test_the_score_is_that_of_the_other_images(fitted, files):
    wrong, weights = np.roll(LABELS, 1), np.linspace(1, 3, N)
    y = np.where(np.arange(N) % 2, wrong, LABELS)
    score, text = warned(fitted.score, spoiled(files, BAD), y, weights)
    assert "6 of 24 images of X are left out:" in text
    sound = [without(values, BAD) for values in (files[0], y, weights)]
    assert score == fitted.score(*sound)
    assert 0 < score < 1
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quietly(fitted.score, spoiled(files, BAD), y[:-1])
    with pytest.raises(ImageError, match="2 of 2 images cannot be used"):
        fitted.score(spoiled(files, BAD)[8:10], y[8:10])


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_image_fit_fails(kind, files):
    with pytest.raises(ImageError, match="24 of 24 images cannot be used") as caught:
        classifier().fit(spoiled(files, dict.fromkeys(range(N), kind)), LABELS)
    assert caught.value.indices == list(range(N))
    with pytest.raises(ImageError, match="24 of 24 images cannot be used"):
        CNNFeatureExtractor(on_error="skip").fit(spoiled(files, dict.fromkeys(range(N), kind)))


def test_a_class_without_an_image_is_an_error_and_changes_nothing(files):
    bad = dict.fromkeys(range(1, N, 3), "damaged")
    fitted = classifier().fit(files[0], LABELS)
    before = dict(vars(fitted))
    with pytest.raises(ImageError, match=r"no image is left of these classes: \['down'\]"):
        fitted.fit(spoiled(files, bad), LABELS)
    assert vars(fitted) == before
    with pytest.raises(ImageError, match="The others are not enough"):
        classifier().fit(spoiled(files, bad), LABELS == "down")


def test_targets_of_other_lengths_are_refused(files):
    for y in (LABELS[:-1], np.append(LABELS, "noise")):
        with pytest.raises(ValueError, match="samples"):
            classifier().fit(spoiled(files, BAD), y)
    with pytest.raises(InvalidParameterError, match="sample_weight"):
        classifier().fit(spoiled(files, BAD), LABELS, np.ones(N - len(BAD)))


def test_what_reached_the_store_is_not_computed_again(files, monkeypatch):
    computed, keep = [], _Extraction._keep
    monkeypatch.setattr(_Extraction, "_keep", lambda self, batch, made: (
        computed.append(len(batch)), keep(self, batch, made)))  # fmt: skip
    monkeypatch.setattr("transferclf.features.extraction.BATCH_SIZE", 4)
    bad = {9: "damaged", 15: "damaged", 19: "damaged"}
    quietly(classifier(cache=FeatureStore()).fit, spoiled(files, bad), LABELS)
    assert sum(computed) == N - len(bad)


def test_without_faults_nothing_is_read_twice(files, monkeypatch):
    calls, look, load = [], ImageSource.look, ImageSource.load_looked
    monkeypatch.setattr(ImageSource, "look", lambda *given: (calls.append(1), look(*given))[1])
    monkeypatch.setattr(ImageSource, "load_looked", lambda *given: (
        calls.append(2), load(*given))[1])  # fmt: skip
    fitted = classifier(cache=FeatureStore()).fit(files[0], LABELS)
    assert (calls.count(1), calls.count(2)) == (N, N)
    assert fitted.skipped_indices_.size == 0


def test_searches_and_folds_work_with_images_at_fault(files):
    X = np.array(spoiled(files, {3: "missing", 8: "damaged"}), dtype=object)
    search = GridSearchCV(classifier(), {"l2": [0.1, 1.0]}, cv=2, error_score="raise")
    quietly(search.fit, X, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.skipped_indices_.tolist() == [3, 8]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cross_val_score(classifier(), X, LABELS, cv=2)
    # Both are in one fold: one fit learns without them, and one score leaves them out.
    assert [each.category for each in caught].count(TransferclfWarning) == 2
    told = quietly(cross_val_predict, classifier(), X, LABELS, cv=2, method="predict_proba")
    assert np.flatnonzero(np.isnan(told).any(axis=1)).tolist() == [3, 8]


@pytest.mark.parametrize(
    "kind", ["plain", "pipeline", "frozen", pytest.param("fine-tuned", marks=pytest.mark.slow)]
)
def test_a_rejector_learns_from_the_other_images(kind, files, fitted):
    bad = {3: "damaged", 4: "missing", 8: "text"}
    X, sound, rest = spoiled(files, bad), without(files[0], bad), without(LABELS, bad)
    estimator = {
        "plain": classifier(),
        "pipeline": make_pipeline(classifier()),
        "fine-tuned": classifier(**TUNED),
        "frozen": FrozenEstimator(fitted),
    }[kind]
    rejector = UnknownRejector(estimator, coverage=0.5, n_splits=3, random_state=0)
    skipping = quietly(rejector.fit, X, LABELS)
    alone = quietly(clone(rejector).fit, sound, rest)
    if kind != "fine-tuned":  # where damage shows after images were held out
        assert skipping.offset_ == alone.offset_
    assert np.isfinite(skipping.held_out_scores_).all()
    assert np.isnan(quietly(skipping.predict_proba, X)[list(bad)]).all()
    with pytest.raises(ImageError, match="3 of 24 images") as caught:
        skipping.predict(X)
    assert caught.value.indices == list(bad)


def test_reports_need_a_result_for_each_image(fitted, files):
    X, regressor = spoiled(files, BAD), TransferRegressor(image_size=32, cache=STORE)
    regressor.fit(files[0], NUMBERS).set_params(on_error="skip")
    labels = clone(fitted).fit(files[0], np.array([[1, 0], [0, 1], [1, 1]])[np.arange(N) % 3])
    for estimator, y in ((fitted, LABELS), (regressor, NUMBERS), (labels, np.ones((N, 2), int))):
        with pytest.raises(ImageError, match="gives NaN for 6 of 24 images, the first") as caught:
            quietly(evaluate, estimator, X, y)
        assert caught.value.indices == list(BAD)


def test_an_audit_lists_or_raises(files):
    X = spoiled(files, BAD)
    extractor = CNNFeatureExtractor(image_size=32, on_error="skip", cache=STORE)
    found = audit(X, LABELS, extractor=extractor)
    assert found.unreadable["index"].tolist() == list(BAD)
    assert np.isnan(found.distance[list(BAD)]).all()
    with pytest.raises(ImageError) as caught:
        audit(X, LABELS, extractor=extractor, on_error="raise")
    assert caught.value.indices == list(BAD)
    with pytest.raises(InvalidParameterError, match="on_error"):
        audit(X, LABELS, on_error="ignore")


def test_an_archive_keeps_what_was_skipped(files, tmp_path):
    fitted = quietly(classifier().fit, spoiled(files, BAD), LABELS)
    save_model(fitted, tmp_path / "a.model")
    loaded = load_model(tmp_path / "a.model")
    assert loaded.on_error == "skip"
    np.testing.assert_array_equal(loaded.skipped_indices_, fitted.skipped_indices_)


def test_other_values_are_refused(fitted, files):
    with pytest.raises(InvalidParameterError, match="on_error must be one of 'raise', 'skip'"):
        classifier(on_error="ignore").fit(files[0], LABELS)
    with pytest.raises(InvalidParameterError, match="on_error"):
        clone(fitted).set_params(on_error="drop").fit(files[0], LABELS)


def test_errors_that_are_not_of_single_images_stay_errors(files):
    for X in ([], np.zeros((N, 8)), np.zeros((N, 8, 8, 7))):
        with pytest.raises(ImageError):
            classifier().fit(X, LABELS[: len(X)])


def test_callbacks_see_one_training(files):
    class Counter(keras.callbacks.Callback):
        begun = 0

        def on_train_begin(self, logs=None):
            Counter.begun += 1

    bad = dict.fromkeys([1, 2, 13, 22], "damaged")
    how = classifier(hidden_units=(4,), epochs=2, callbacks=[Counter()], cache=None)
    quietly(how.fit, spoiled(files, bad), LABELS)
    assert Counter.begun == 1
