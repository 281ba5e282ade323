"""TransferRegressor: from images to numbers, inside the tools of scikit-learn, and in archives."""

import io
import pickle

import keras
import numpy as np
import pandas as pd
import pytest
from fine_tuning_helpers import PLAIN
from image_helpers import in_kind, striped_images
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    TransferClassifier,
    TransferRegressor,
    load_model,
    save_model,
)
from transferclf.exceptions import ArchiveError, InvalidParameterError, TransferclfWarning
from transferclf.graphs.folding import fold_batch_norm
from transferclf.heads.gradients import layer_gradients
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.leave_one_out import CANDIDATES

N = 24
IMAGES = striped_images(N, np.random.default_rng(3))
BRIGHTNESS = np.random.default_rng(4).uniform(0.3, 1.0, N)
IMAGES = (IMAGES * BRIGHTNESS[:, None, None, None]).astype(np.uint8)
Y = 20 + 50 * BRIGHTNESS
TABLE = pd.DataFrame({"brightness": Y, "kind": np.arange(N) % 3 * 1.0})
BY_KERAS = {"hidden_units": (8,), "epochs": 3}


def tiny(**options):
    return TransferRegressor(**{"image_size": 32, "random_state": 0, **options})


@pytest.fixture(scope="module")
def features():
    return CNNFeatureExtractor(image_size=32).fit_transform(IMAGES).astype(float)


@pytest.fixture(scope="module")
def linear():
    return tiny().fit(IMAGES, TABLE)


@pytest.fixture(scope="module")
def hidden():
    return tiny(**BY_KERAS).fit(IMAGES, Y, validation_data=(IMAGES[:6], Y[:6]))


# --- what it learns


def test_the_linear_head_is_that_of_ridge_cv(features):
    fitted = tiny().fit(IMAGES, Y)
    rows = StandardScaler().fit_transform(features)
    z = (Y - Y.mean()) / Y.std()
    expected = RidgeCV(alphas=N * CANDIDATES).fit(rows, z)
    np.testing.assert_allclose(fitted.l2_, expected.alpha_ / N)
    np.testing.assert_allclose(
        fitted.predict(IMAGES), Y.mean() + Y.std() * expected.predict(rows), rtol=1e-4
    )
    assert fitted.score(IMAGES, Y) == r2_score(Y, fitted.predict(IMAGES))
    assert (fitted.n_iter_, len(fitted.history_["mae"])) == (1, 1)
    np.testing.assert_allclose(fitted.history_["mae"], np.abs(fitted.predict(IMAGES) - Y).mean())


def test_predictions_have_the_shape_of_y_and_its_names(linear):
    assert linear.predict(IMAGES[:5]).shape == (5, 2)
    assert linear.output_names_.tolist() == ["brightness", "kind"]
    assert linear.n_outputs_ == 2
    assert tiny(l2=0.1).fit(IMAGES, Y[:, None]).predict(IMAGES[:5]).shape == (5, 1)
    assert tiny(l2=0.1).fit(IMAGES, Y.tolist()).predict(IMAGES[:5]).shape == (5,)


def test_several_outputs_are_learned_as_each_alone(linear):
    both = tiny(l2=0.1).fit(IMAGES, TABLE).predict(IMAGES)
    for number, name in enumerate(TABLE):
        alone = tiny(l2=0.1).fit(IMAGES, TABLE[name]).predict(IMAGES)
        np.testing.assert_allclose(both[:, number], alone, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"loss": "huber"}], ids=["ridge", "huber"])
def test_shift_and_scale_of_y_shift_and_scale_predictions(options):
    plain = tiny(**options).fit(IMAGES, Y)
    moved = tiny(**options).fit(IMAGES, 1000 * Y - 3e4)
    assert plain.l2_ == moved.l2_
    np.testing.assert_allclose(moved.predict(IMAGES), 1000 * plain.predict(IMAGES) - 3e4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"loss": "huber"}], ids=["ridge", "huber"])
def test_a_weight_of_two_is_the_image_twice(options):
    weights = np.arange(N) % 3
    copies = np.repeat(np.arange(N), weights)
    weighted = tiny(**options).fit(IMAGES, Y, sample_weight=weights)
    repeated = tiny(**options).fit(IMAGES[copies], Y[copies])
    assert weighted.l2_ == repeated.l2_
    np.testing.assert_allclose(weighted.predict(IMAGES), repeated.predict(IMAGES), rtol=1e-3)


def test_a_constant_target_is_predicted():
    with pytest.warns(TransferclfWarning, match="y is constant") as warned:
        fitted = tiny(**BY_KERAS).fit(IMAGES, np.full(N, 4.5))
    assert [warning.category for warning in warned].count(TransferclfWarning) == 1
    np.testing.assert_array_equal(fitted.predict(IMAGES), np.full(N, 4.5))
    np.testing.assert_array_equal(fitted.history_["mae"], 0)


def test_keras_trains_hidden_layers_and_measures_in_the_units_of_y(hidden):
    expected = np.abs(hidden.predict(IMAGES[:6]) - Y[:6]).mean()
    np.testing.assert_allclose(hidden.history_["val_mae"][-1], expected, rtol=1e-4)
    assert hidden.history_["mae"][-1] < hidden.history_["mae"][0]
    # Another target has another unit, in the same compiled function.
    other = tiny(**BY_KERAS).fit(IMAGES, 1000 * Y, validation_data=(IMAGES[:6], 1000 * Y[:6]))
    for name in ("mae", "val_mae"):
        np.testing.assert_allclose(
            other.history_[name], 1000 * np.array(hidden.history_[name]), rtol=1e-3
        )


def test_the_same_seed_gives_the_same_bits(hidden):
    again = clone(hidden).fit(IMAGES, Y, validation_data=(IMAGES[:6], Y[:6]))
    assert again.predict(IMAGES).tobytes() == hidden.predict(IMAGES).tobytes()


def test_early_stopping_holds_out_copies_together():
    twice, y = np.concatenate([IMAGES, IMAGES]), np.concatenate([Y, Y])
    fitted = tiny(**BY_KERAS, early_stopping=True, validation_fraction=0.25).fit(twice, y)
    kept = fitted.sample_indices_
    assert len(kept) == 36
    np.testing.assert_array_equal(kept[:18] + N, kept[18:])
    assert len(fitted.history_["val_mae"]) == fitted.n_iter_


def test_warm_start_goes_on_in_the_units_of_the_first_fit():
    fitted = tiny(**BY_KERAS, warm_start=True).fit(IMAGES, Y)
    before = fitted.predict(IMAGES)
    fitted.set_params(epochs=1, learning_rate=1e-9).fit(IMAGES[:12], Y[:12] + 1)
    np.testing.assert_allclose(fitted.predict(IMAGES), before, rtol=1e-4)
    assert fitted.n_iter_ == 4
    with pytest.raises(ValueError, match=r"warm_start=True goes on with the numbers .* Got 2 for"):
        fitted.fit(IMAGES, TABLE)


def test_predictions_over_several_looks_are_their_mean():
    fitted = tiny(l2=0.1, augmentation=Augmentation(horizontal_flip=True, brightness=0.3))
    fitted.fit(IMAGES, Y)
    plain = fitted.predict(IMAGES)
    looks = [
        fitted.head_.suffix.objective.link(
            fitted._applied(fitted.head_.scores, fitted._source_of(IMAGES), *look)
        )[:, 0]
        for look in fitted.set_params(test_time_augmentation="views")._looks()
    ]
    assert len(looks) > 1
    np.testing.assert_allclose(looks[0], plain)
    np.testing.assert_allclose(fitted.predict(IMAGES), np.mean(looks, axis=0))


# --- fine-tuning


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_fine_tuning_gives_the_losses_of_keras(loss):
    options = {
        "loss": loss,
        "l2": 1.0,
        "trainable_layers": 8,  # the last six have no weights
        "fine_tune_epochs": 2,
        "fine_tune_learning_rate": 1e-5,
        "batch_size": 8,
        **PLAIN,
        "optimizer": "auto",  # the head at its optimum, then Adam
    }
    fitted = tiny(**options).fit(IMAGES, TABLE)
    start = tiny(loss=loss, l2=1.0).fit(IMAGES, TABLE)
    scale, mean = TABLE.to_numpy().std(axis=0), TABLE.to_numpy().mean(axis=0)
    # The whole network, with standardised outputs.
    model, trained = fold_batch_norm(start.model_), set(fitted.head_.tuned())
    last = model.get_layer("predictions")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / scale, (bias - mean) / scale])
    model.trainable = True
    for layer in model.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = (layer.name in trained or layer is last) and not is_norm
    last.kernel.regularizer = keras.regularizers.L2(fitted.l2_)
    inner = {"squared_error": keras.losses.mean_squared_error, "huber": keras.losses.huber}[loss]
    model.compile("adam", lambda true, scores: 2 * inner(true, scores))
    model.optimizer.learning_rate = fitted.fine_tune_learning_rate
    z, losses = ((TABLE.to_numpy() - mean) / scale).astype(np.float32), []
    for order in epoch_orders(Samples.of(IMAGES, z, np.ones(N)), 2, seed=0):
        pixels = IMAGES[order].astype(np.float32)
        losses += model.fit(pixels, z[order], 8, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(fitted.history_["loss"][-2:], losses, atol=1e-4)
    found = model.predict(IMAGES.astype(np.float32), verbose=0) * scale + mean
    np.testing.assert_allclose(fitted.predict(IMAGES), found, rtol=1e-3, atol=1e-3)
    own = fitted.model_.predict(IMAGES.astype(np.float32), verbose=0)
    np.testing.assert_allclose(own, fitted.predict(IMAGES), rtol=1e-4, atol=1e-4)


# --- the whole model, archives


@pytest.mark.slow
def test_the_whole_model_gives_numbers_in_the_units_of_y(linear, hidden):
    for fitted in (linear, hidden):
        found = fitted.model_.predict(IMAGES.astype(np.float32), verbose=0)
        expected = fitted.predict(IMAGES).reshape(N, -1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_an_output_are_in_the_units_of_y(linear):
    layer = "block3_unit1_relu1"
    names = [each.name for each in linear.model_.layers]
    layer = layer if layer in names else next(name for name in names if "relu" in name)
    both = [
        layer_gradients(linear.model_, layer, IMAGES[:2], np.full(2, output))[1]
        for output in (0, 1)
    ]
    scales = linear.head_.suffix.objective.scale
    other = pickle.loads(pickle.dumps(linear))
    kernel = other.head_.weights[0]
    kernel[:, 1] = kernel[:, 0]
    same = layer_gradients(other.model_, layer, IMAGES[:2], np.ones(2, int))[1]
    np.testing.assert_allclose(same / scales[1], both[0] / scales[0], rtol=1e-3, atol=1e-6)


def test_archives_and_pickles_predict_the_same(linear, hidden):
    for fitted in (linear, hidden):
        file = io.BytesIO()
        save_model(fitted, file)
        for other in (load_model(file), pickle.loads(pickle.dumps(fitted))):
            assert isinstance(other, TransferRegressor)
            np.testing.assert_array_equal(other.predict(IMAGES), fitted.predict(IMAGES))
            assert other.output_names_.tolist() == fitted.output_names_.tolist()
            assert other.get_params() == fitted.get_params()


def test_an_archive_of_a_classifier_holds_no_numbers(linear):
    forged = TransferClassifier(image_size=32, random_state=0).fit(IMAGES, np.arange(N) % 2)
    forged.head_ = linear.head_
    file = io.BytesIO()
    save_model(forged, file)
    with pytest.raises(ArchiveError, match="TransferClassifier has no targets of kind 'numbers'"):
        load_model(file)


# --- parameters


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"loss": "absolute"}, "loss must be one of 'squared_error', 'huber'. Got 'absolute'"),
        ({"optimizer": "ridge", "loss": "huber"}, "'ridge' minimises the squared error"),
        ({"optimizer": "ridge", "hidden_units": (3,)}, "optimizer='ridge' fits a linear head only"),
        ({"l2": -1.0}, "l2 must be 'auto' or a finite number"),
    ],
)
def test_wrong_parameters_are_refused(options, told):
    with pytest.raises(InvalidParameterError, match=told):
        tiny(**options).fit(IMAGES, Y)


def test_parameters_about_classes_are_not_those_of_a_regressor():
    names = set(TransferClassifier().get_params()) - set(TransferRegressor().get_params())
    assert names == {"class_weight", "oversample"}
    assert set(TransferRegressor().get_params()) - set(TransferClassifier().get_params()) == {
        "loss"
    }
    assert not hasattr(tiny(), "predict_proba")
    with pytest.raises(InvalidParameterError, match="optimizer must be one of 'auto', 'lbfgs'"):
        TransferClassifier(optimizer="ridge").fit(IMAGES, np.arange(N) % 2)


def test_l_bfgs_reaches_the_optimum_of_ridge():
    by_lbfgs = tiny(l2=0.1, optimizer="lbfgs").fit(IMAGES, Y)
    np.testing.assert_allclose(
        by_lbfgs.predict(IMAGES), tiny(l2=0.1).fit(IMAGES, Y).predict(IMAGES), rtol=1e-3
    )


def test_parameters_without_effect_are_named():
    with pytest.warns(TransferclfWarning, match="set without effect on this fit: .*max_iter=5"):
        tiny(max_iter=5, l2=0.1).fit(IMAGES, Y)


def test_wrong_targets_are_found_before_a_network_is_built(monkeypatch):
    monkeypatch.setattr(TransferRegressor, "_fit_network", lambda *a: pytest.fail("built"))
    for y, told in [
        (None, "y is None"),
        (np.full(N, np.nan), "contains NaN"),
        (Y[:3], "3 targets"),
    ]:
        fitted = tiny()
        with pytest.raises(ValueError, match=told):
            fitted.fit(IMAGES, y)
        with pytest.raises(NotFittedError):
            fitted.predict(IMAGES)


# --- the tools of scikit-learn


@pytest.mark.parametrize("kind", ["arrays", "paths"])
def test_search_and_cross_validation(kind, tmp_path):
    X, folds = in_kind(IMAGES, kind, tmp_path), KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(tiny(), {"l2": ["auto", 1e-2, 1e4]}, cv=folds).fit(X, Y)
    assert search.best_params_["l2"] != 1e4
    scorers = ("r2", "neg_root_mean_squared_error", "neg_mean_absolute_error")
    scores = cross_validate(search.best_estimator_, X, Y, cv=folds, scoring=scorers)
    np.testing.assert_allclose(scores["test_r2"].mean(), search.best_score_)
    assert scores["test_r2"].mean() > 0.5


@pytest.mark.parametrize("kind", ["arrays", "paths"])
def test_meta_regressors(kind, tmp_path):
    X = in_kind(IMAGES, kind, tmp_path)
    two = [("weak", tiny(l2=0.1)), ("strong", tiny(l2=10.0))]
    stacked = StackingRegressor(two, final_estimator=Ridge(), cv=KFold(2)).fit(X, Y)
    columns = [cross_val_predict(each, X, Y, cv=KFold(2)) for _, each in two]
    final = Ridge().fit(np.column_stack(columns), Y)
    both = np.column_stack([clone(each).fit(X, Y).predict(X) for _, each in two])
    np.testing.assert_allclose(stacked.predict(X), final.predict(both))
    logs = TransformedTargetRegressor(tiny(l2=0.1), func=np.log, inverse_func=np.exp).fit(X, Y)
    expected = np.exp(tiny(l2=0.1).fit(X, np.log(Y)).predict(X))
    np.testing.assert_allclose(logs.predict(X), expected)
    piped = make_pipeline(FunctionTransformer(), tiny(l2=0.1)).fit(X, Y)
    np.testing.assert_array_equal(piped.predict(X), tiny(l2=0.1).fit(X, Y).predict(X))


@pytest.mark.parametrize("kind", ["arrays", "paths"])
def test_regressors_of_several_outputs(kind, tmp_path):
    X, one = in_kind(IMAGES, kind, tmp_path), tiny(l2=0.1)
    expected = clone(one).fit(X, TABLE).predict(X)
    found = MultiOutputRegressor(one).fit(X, TABLE).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # A chain takes numbers alone, to which it adds targets: here the numbers of the images.
    chain = RegressorChain(make_pipeline(FunctionTransformer(chosen, kw_args={"X": X}), one))
    numbers = np.arange(N)[:, None]
    chained = chain.fit(numbers, TABLE).predict(numbers)
    np.testing.assert_allclose(chained, expected, rtol=1e-5, atol=1e-6)


def chosen(numbers, X):
    return [X[int(number)] for number in numbers[:, 0]]
