"""The linear head: the optimum of a Keras dense softmax layer, found by L-BFGS."""

import itertools
import warnings

import numpy as np
import pytest
from head_helpers import probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from transferclf.heads.kept import FOLDS_KEPT
from transferclf.heads.linear import fit_linear
from transferclf.objectives import Classes


def problem(seed, n=40, d=6, k=3):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    features = rng.normal(size=(n, d)) + rng.normal(size=(k, d))[labels]
    return features.astype(np.float32), labels


def fitted(features, labels, l2=0.01, weights=None, **options):
    weights = np.ones(len(labels)) if weights is None else weights
    classes = Classes.numbered(labels.max() + 1)
    return fit_linear(features, labels, classes, l2=l2, sample_weight=weights, **options)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(2, 5),
    d=st.integers(1, 12),
    l2=st.floats(1e-4, 1.0),
    weighted=st.booleans(),
)
def test_the_head_is_the_optimum_of_the_keras_objective(seed, k, d, l2, weighted):
    import keras
    import tensorflow as tf

    features, labels = problem(seed, n=10 * k, d=d, k=k)
    weights = np.ones(len(labels))
    if weighted:
        weights = np.random.default_rng(seed).uniform(0.1, 3.0, len(labels))
        weights *= len(labels) / weights.sum()  # Keras divides by the number of samples
    head = fitted(features, labels, l2, weights)

    layer = keras.layers.Dense(k, kernel_regularizer=keras.regularizers.L2(l2), dtype="float64")
    standardised = tf.constant((features - head.mean) / head.scale)
    layer.build(standardised.shape)
    layer.set_weights([head.coef, head.intercept])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    with tf.GradientTape() as tape:
        value = loss(labels, layer(standardised), sample_weight=weights) + sum(layer.losses)
    gradients = tape.gradient(value, layer.trainable_variables)

    # The objective is convex, so a zero gradient means the optimum.
    assert max(float(tf.reduce_max(tf.abs(g))) for g in gradients) < 1e-4
    assert float(value) == pytest.approx(head.history["loss"][-1], abs=1e-6)


@pytest.mark.parametrize(("k", "factor"), [(2, 1), (3, 2)])
def test_the_head_agrees_with_scikit_learn(k, factor):
    features, labels = problem(0, k=k)
    head = fitted(features, labels, l2=0.02)
    standardised = (features - head.mean) / head.scale
    # For two classes scikit-learn has one coefficient vector, and softmax has two.
    peer = LogisticRegression(C=1 / (factor * 0.02 * len(labels)), tol=1e-8, max_iter=1000)
    expected = peer.fit(standardised, labels).predict_proba(standardised)
    np.testing.assert_allclose(probabilities(head, features), expected, atol=1e-4)


def test_a_weight_of_two_equals_the_sample_twice():
    features, labels = problem(1)
    weights = np.where(np.arange(len(labels)) % 4 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(len(labels)), weights.astype(int))
    weighted = fitted(features, labels, weights=weights)
    repeated = fitted(features[twice], labels[twice])
    np.testing.assert_allclose(
        probabilities(weighted, features), probabilities(repeated, features), atol=1e-4
    )


def test_a_weight_of_zero_removes_the_sample():
    features, labels = problem(2)
    weights = (np.arange(len(labels)) >= 9).astype(float)
    without = fitted(features[9:], labels[9:])
    features[:9] = 1e6
    np.testing.assert_allclose(
        probabilities(fitted(features, labels, weights=weights), features[9:]),
        probabilities(without, features[9:]),
        atol=1e-4,
    )


def test_class_weights_move_the_decision():
    features, labels = problem(3, d=2, k=2)
    plain = probabilities(fitted(features, labels), features)[:, 1].mean()
    heavy = fitted(features, labels, weights=np.array([1.0, 20.0])[labels])
    assert probabilities(heavy, features)[:, 1].mean() > plain + 0.1


def test_larger_l2_gives_smaller_coefficients():
    features, labels = problem(4)
    norms = [np.linalg.norm(fitted(features, labels, l2).coef) for l2 in (1e-3, 1e-1, 10)]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 10 * norms[2]


def test_the_loss_falls_and_the_last_accuracy_is_that_of_the_head():
    features, labels = problem(5)
    head = fitted(features, labels)
    losses = head.history["loss"]
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    right = (probabilities(head, features).argmax(1) == labels).mean()
    assert head.history["accuracy"][-1] == pytest.approx(right)


def test_a_constant_feature_gives_finite_coefficients():
    features, labels = problem(6)
    features[:, 2] = 7.0
    assert np.isfinite(probabilities(fitted(features, labels), features)).all()


def test_the_scale_of_features_does_not_change_the_result():
    features, labels = problem(7)
    scaled = features * np.array([1e6, 1e-6, 1, 1, 1, 1]) + 3.0
    np.testing.assert_allclose(
        probabilities(fitted(features, labels), features),
        probabilities(fitted(scaled, labels), scaled),
        atol=1e-4,
    )


def test_single_precision_beyond_the_memory_limit_gives_the_same(monkeypatch):
    features, labels = problem(8)
    double = probabilities(fitted(features, labels), features)
    monkeypatch.setattr("transferclf.heads.blocks.MAX_DOUBLE_BYTES", 0)
    np.testing.assert_allclose(probabilities(fitted(features, labels), features), double, atol=1e-3)


def test_too_few_iterations_give_a_warning():
    features, labels = problem(9)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        fitted(features, labels, max_iter=2)


def test_separable_classes_without_regularisation_give_no_warning():
    features, labels = problem(10, n=12, d=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fitted(features, labels, l2=0.0)
    assert head.history["accuracy"][-1] == 1.0


def test_inputs_are_not_changed():
    features, labels = problem(11)
    before = features.copy()
    features.flags.writeable = labels.flags.writeable = False
    fitted(features, labels)
    np.testing.assert_array_equal(features, before)


def test_blas_threads_are_limited_only_during_the_fit():
    from threadpoolctl import threadpool_info

    features, labels = problem(12)
    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    fitted(features, labels)
    assert [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()] == before


def test_constant_features_give_the_class_frequencies():
    features, labels = np.ones((8, 3)), np.array([0, 1] * 4)
    head = fitted(features, labels)
    np.testing.assert_allclose(probabilities(head, features), 0.5)
    assert head.history == {"loss": [pytest.approx(np.log(2))], "accuracy": [0.5]}
    shares = probabilities(fitted(features, np.array([0] * 6 + [1] * 2)), features[:1])
    np.testing.assert_allclose(shares, [[0.75, 0.25]], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 30), d=st.integers(7, 60))
def test_rotated_features_give_the_same_head(seed, n, d):
    from transferclf.heads import linear

    features, labels = problem(seed, n=n, d=d)
    features[:, 0] = 3.0
    rotated = fitted(features, labels, l2=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "MAX_ROTATED", 0)
        plain = fitted(features, labels, l2=0.1)
    # Both fits end with all derivatives below the tolerance; the curvature is at least 2 * l2.
    apart = 2 * linear.GRADIENT_TOLERANCE * np.sqrt(plain.coef.size + 3) / (2 * 0.1)
    np.testing.assert_allclose(rotated.coef, plain.coef, atol=apart)


def test_remembered_axes_belong_to_one_fold():
    from transferclf.heads import linear

    features, _ = problem(13, n=12, d=20)
    ones = np.ones(12)
    changed = features.copy()
    changed[5, 3] += 0.5
    folds = [
        (features, ones),
        (changed, ones),
        (features.astype(float), ones),
        (features, np.where(np.arange(12) == 4, 2.0, 1.0)),
        (features.reshape(15, 16), np.ones(15)),
        (features.reshape(10, 24), np.ones(10)),
    ]

    def coefs():
        return [fitted(x, np.arange(len(x)) % 3, weights=weights).coef for x, weights in folds]

    together = coefs()
    assert len(linear._axes) >= len(folds)
    for (x, weights), expected in zip(folds, together, strict=True):
        linear._axes.clear()
        alone = fitted(x, np.arange(len(x)) % 3, weights=weights).coef
        np.testing.assert_array_equal(alone, expected)


def test_a_limited_number_of_folds_is_remembered():
    from transferclf.heads import linear

    for seed in range(FOLDS_KEPT + 3):
        fitted(*problem(seed, n=9, d=20))
    assert len(linear._axes) == FOLDS_KEPT


@pytest.mark.parametrize("d", [6, 60])
def test_validation_data_are_evaluated_but_not_fitted(d):
    features, labels = problem(14, d=d)
    others, its_labels = problem(15, n=25, d=d)
    weights = np.random.default_rng(0).uniform(0.1, 3.0, 25)
    alone = fitted(features, labels)
    head = fitted(features, labels, validation=(others, its_labels, weights))
    np.testing.assert_array_equal(head.coef, alone.coef)
    np.testing.assert_array_equal(head.intercept, alone.intercept)
    for name in ("loss", "accuracy"):
        assert head.history[name] == alone.history[name]
        assert len(head.history[f"val_{name}"]) == len(head.history[name])

    found = probabilities(head, others)
    losses = -np.log(found[np.arange(25), its_labels])
    loss = np.average(losses, weights=weights) + 0.01 * np.sum(head.coef**2)
    right = np.average(found.argmax(axis=1) == its_labels, weights=weights)
    assert head.history["val_loss"][-1] == pytest.approx(loss)
    assert head.history["val_accuracy"][-1] == pytest.approx(right)


@pytest.mark.parametrize("d", [6, 60])
def test_validation_on_the_training_data_gives_the_training_history(d):
    features, labels = problem(16, d=d)
    history = fitted(features, labels, validation=(features, labels, np.ones(40))).history
    np.testing.assert_allclose(history["val_loss"], history["loss"])
    assert history["val_accuracy"] == history["accuracy"]


def test_without_validation_data_the_history_has_only_training_values():
    assert list(fitted(*problem(17)).history) == ["loss", "accuracy"]


def test_constant_features_give_one_entry_of_validation_history():
    features, labels = np.ones((8, 3)), np.array([0, 1] * 4)
    history = fitted(features, labels, validation=(features[:2], labels[:2], np.ones(2))).history
    assert history["val_loss"] == [pytest.approx(np.log(2))]
    assert history["val_accuracy"] == [0.5]
