"""Tests of the penalty chosen by cross-validation: quality, cost, and independence of order."""

import numpy as np
import pytest
from head_helpers import probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from transferclf.exceptions import InvalidParameterError
from transferclf.heads.linear import fit_linear
from transferclf.objectives import Classes
from transferclf.training import regularization
from transferclf.training.regularization import CANDIDATES, DEFAULT_L2, choose_l2


def problem(seed, n=60, d=8, k=3, distance=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    features = rng.normal(size=(n, d)) + distance * rng.normal(size=(k, d))[labels]
    return features.astype(np.float32), labels


def chosen(features, labels, weights=None, **options):
    weights = np.ones(len(labels)) if weights is None else weights
    classes = Classes.numbered(labels.max() + 1)
    return choose_l2(features, labels, classes, sample_weight=weights, **options)


def path(monkeypatch, *args, **options):
    """Return the choice and the losses that decide it."""
    losses = []
    scores = regularization.Fold.scores

    def noted(self, l2):
        result = scores(self, l2)
        losses.append(result)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(regularization.Fold, "scores", noted)
        choice = chosen(*args, **options)
    return choice, losses


def samples_of(features, labels, weights=None, groups=None):
    weights = np.ones(len(labels)) if weights is None else weights
    classes = Classes.numbered(labels.max() + 1)
    return regularization._distinct(features, labels, classes, weights, groups)


# Good


def test_noise_gets_a_strong_penalty_and_clear_classes_a_weak_one():
    noise = chosen(*problem(0, d=100, distance=0.0))
    clear = chosen(*problem(0, d=100, distance=3.0))
    assert clear <= 0.01 < 1.0 <= noise


@pytest.mark.parametrize("distance", [0.15, 0.3, 0.6])
def test_the_choice_is_nearly_the_best_for_new_samples(distance):
    features, labels = problem(1, n=2000, d=60, distance=distance)
    train, test = slice(0, 200), slice(200, None)

    def loss(l2):
        head = fit_linear(
            features[train], labels[train], Classes.numbered(3), l2=l2, sample_weight=np.ones(200)
        )
        return log_loss(labels[test], probabilities(head, features[test]))

    losses = [loss(l2) for l2 in CANDIDATES]
    choice = loss(chosen(features[train], labels[train]))
    assert choice <= 1.15 * min(losses) + 0.005
    assert choice <= 0.5 * max(losses)


def test_the_penalty_of_a_fold_is_scaled_to_all_samples(monkeypatch):
    asked = []
    original = regularization.LinearProblem

    def noted(*args):
        asked.append(args[3])
        return original(*args)

    monkeypatch.setattr(regularization, "LinearProblem", noted)
    chosen(*problem(2))
    assert asked[0] == pytest.approx(CANDIDATES[-1] * 5 / 4)


def test_the_loose_path_agrees_with_exact_fits(monkeypatch):
    features, labels = problem(3, n=90, d=20, distance=0.5)
    _, loose = path(monkeypatch, features, labels)
    monkeypatch.setattr(regularization, "LOSS_TOLERANCE", 1e-12)
    monkeypatch.setattr(regularization, "MAX_ITER", 5000)
    _, exact = path(monkeypatch, features, labels)
    common = min(len(loose), len(exact))
    np.testing.assert_allclose(
        np.array(loose)[:common, 0], np.array(exact)[:common, 0], rtol=0.03, atol=0.05
    )


@pytest.mark.parametrize("shape", [(40, 70), (70, 40)])
def test_principal_axes_give_the_same_path(monkeypatch, shape):
    features, labels = problem(4, n=shape[0], d=shape[1], distance=0.4)
    monkeypatch.setattr(regularization, "N_DEALS", 1)
    monkeypatch.setattr(regularization, "LOSS_TOLERANCE", 1e-12)
    monkeypatch.setattr(regularization, "MAX_ITER", 5000)
    choice, rotated = path(monkeypatch, features, labels)
    monkeypatch.setattr(regularization, "MAX_AXES", 0)
    same, plain = path(monkeypatch, features, labels)
    assert same == choice
    np.testing.assert_allclose(np.array(rotated)[:, 0], np.array(plain)[:, 0], rtol=0.02)


def test_principal_rows_keep_the_products_of_standardised_rows():
    for n, d in [(12, 30), (30, 12)]:
        features, _ = problem(5, n=n, d=d)
        features[:, 3] = 7.0
        standardised = features - features.mean(axis=0)
        standardised /= np.where(features.std(axis=0) < 1e-6, 1, features.std(axis=0))
        rows = regularization.principal_rows(features, np.ones(n))
        assert rows.dtype == np.float32
        assert rows.shape[1] <= min(n, d)
        np.testing.assert_allclose(rows @ rows.T, standardised @ standardised.T, atol=1e-3)


# Cheap


def test_the_path_ends_when_the_loss_has_risen(monkeypatch):
    _, scores = path(monkeypatch, *problem(0, d=100, distance=0.0))
    assert len(scores) < 5 * regularization.N_DEALS * len(CANDIDATES) / 2


def test_many_samples_are_not_all_held_out(monkeypatch):
    monkeypatch.setattr(regularization, "ENOUGH_HELD_OUT", 20)
    features, labels = problem(6)
    folds = regularization._folds(samples_of(features, labels), Classes.numbered(3))
    assert len(folds) == 2  # 12 samples each
    assert chosen(features, labels) in CANDIDATES


# Independence of the order of samples


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), d=st.integers(1, 90), grouped=st.booleans())
def test_order_copies_and_weights_of_zero_change_nothing(seed, d, grouped):
    features, labels = problem(seed, n=30, d=d, distance=0.5)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, 30).astype(float)
    features[weights == 0] *= 100.0
    groups = np.arange(30) // 3 if grouped else None
    twice = rng.permutation(np.repeat(np.arange(30), weights.astype(int)))
    with pytest.MonkeyPatch.context() as patch:
        of_weights = path(patch, features, labels, weights, groups=groups)
        repeated_groups = None if groups is None else -groups[twice]
        of_copies = path(patch, features[twice], labels[twice], groups=repeated_groups)
    assert of_weights == of_copies  # to the last bit of every loss


def test_weights_count_by_their_shares():
    features, labels = problem(7, distance=0.5)
    weights = np.random.default_rng(7).uniform(0.1, 2.0, len(labels))
    assert chosen(features, labels, weights) == chosen(features, labels, 1000 * weights)


def test_weights_can_change_the_choice():
    clear, labels = problem(8, n=120, d=30, distance=2.0)
    noise, _ = problem(9, n=120, d=30, distance=0.0)
    features = np.concatenate([clear, noise + 20.0])
    labels = np.concatenate([labels, labels])
    half = np.repeat([1.0, 1e-6], 120)
    assert chosen(features, labels, half) < chosen(features, labels, half[::-1])


def test_the_choice_is_deterministic_and_keeps_the_random_state():
    features, labels = problem(10)
    features.flags.writeable = labels.flags.writeable = False
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert chosen(features, labels) == chosen(features, labels)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_number_of_blas_threads_is_restored():
    from threadpoolctl import threadpool_info

    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    chosen(*problem(11))
    assert [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()] == before


# Folds


def test_copies_are_one_sample_and_folds_are_stratified():
    features, labels = problem(12, n=50, k=2)
    twice = np.tile(np.arange(50), 2)
    samples = samples_of(features[twice], labels[twice])
    assert len(samples.features) == 50
    np.testing.assert_array_equal(samples.weights, 2.0)
    np.testing.assert_array_equal(samples.units, np.arange(50))
    for label in (0, 1):
        folds = samples.units[samples.targets == label] % regularization.N_FOLDS
        np.testing.assert_array_equal(np.bincount(folds), 5)


def test_one_image_in_two_classes_is_two_samples():
    features = np.zeros((4, 2), dtype=np.float32)
    samples = samples_of(features, np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(samples.targets, [0, 1])
    assert chosen(features, np.array([0, 1, 0, 1])) == DEFAULT_L2


def test_groups_stay_together_and_merge_if_they_share_a_sample():
    features, labels = problem(13, n=12, k=1)
    features[4] = features[0]  # groups "a" and "b" share it
    names = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    samples = samples_of(features, labels, groups=names)
    unit_of = {
        row.tobytes(): unit for row, unit in zip(samples.features, samples.units, strict=True)
    }
    units = [unit_of[row.tobytes()] for row in features]
    assert len(set(units[:8])) == 1
    assert len(set(units[8:])) == 1
    assert sorted(set(units)) == [0, 1]


def test_views_of_one_image_are_in_one_fold():
    rng = np.random.default_rng(14)
    images = rng.normal(size=(20, 100))  # noise: labels cannot be learned
    views = np.repeat(images, 5, axis=0) + 0.01 * rng.normal(size=(100, 100))
    labels = np.repeat(np.arange(20) % 2, 5)
    groups = np.repeat(np.arange(20), 5)
    assert chosen(views, labels) < 0.1 < chosen(views, labels, groups=groups)


def test_few_samples_are_split_several_times_differently():
    features, labels = problem(17, n=60, k=3)
    folds = regularization._folds(samples_of(features, labels), Classes.numbered(3))
    held_out = [
        frozenset(row.tobytes() for row in fold._held_out[0].astype(np.float32)) for fold in folds
    ]
    assert len(set(held_out)) == len(held_out) == 25
    for first in range(0, 25, 5):
        assert len(frozenset().union(*held_out[first : first + 5])) == 60
    for fold in folds:
        assert np.ptp(np.bincount(fold._held_out[1], minlength=3)) <= 1
    assert (
        len(regularization._folds(samples_of(*problem(17, n=1200, k=3)), Classes.numbered(3))) == 5
    )


def test_fewer_samples_than_folds_and_a_class_of_one_still_choose():
    features, labels = problem(15, n=7, k=3)
    assert chosen(features, labels) in CANDIDATES
    alone = np.array([0, 0, 0, 0, 0, 1, 2])
    assert chosen(features, alone) in CANDIDATES


@pytest.mark.parametrize(
    ("labels", "weights"),
    [([0, 1], [1, 1]), ([0, 0, 0], [1, 1, 1]), ([0, 0, 1], [1, 0, 1]), ([0, 1], [0, 0]), ([], [])],
)
def test_unsplittable_samples_give_the_default(labels, weights):
    features = np.arange(2.0 * len(labels)).reshape(-1, 2)
    labels, weights = np.array(labels, dtype=int), np.array(weights, dtype=float)
    choice = choose_l2(features, labels, Classes.numbered(2), sample_weight=weights)
    assert choice == DEFAULT_L2
    grouped = choose_l2(features, labels, Classes.numbered(2), sample_weight=weights, groups=labels)
    assert grouped == DEFAULT_L2


def test_a_single_group_gives_the_default():
    features, labels = problem(16)
    assert chosen(features, labels, groups=np.zeros(60)) == DEFAULT_L2


# Hostile input


def test_a_tie_goes_to_the_stronger_penalty():
    features = np.ones((20, 3)) + np.eye(20, 3) * 0
    features[::2, 0] = np.nextafter(1.0, 2.0)  # two distinct rows without information
    labels = np.arange(20) // 10
    assert chosen(features, labels) == CANDIDATES[-1]


def test_constant_huge_and_tiny_features_keep_the_choice():
    # Many samples, as changed features are dealt to other folds.
    features, labels = problem(17, n=600, distance=0.5)
    expected = chosen(features, labels)
    scaled = features.astype(float) * np.array([1e8, 1e-8, 1, 1, 1, 1, 1, 1])
    assert chosen(scaled, labels) == expected
    constant = np.column_stack([features, np.full(600, 7.0, np.float32)])
    assert chosen(constant, labels) == expected


def test_other_layouts_and_types_give_the_same():
    features, labels = problem(18)
    expected = chosen(features, labels)
    assert chosen(np.asfortranarray(features), labels.astype(np.uint8)) == expected
    assert chosen(features, labels, np.ones(60, dtype=int)) == expected
    assert chosen(np.tile(features, 2)[:, ::2], labels) in CANDIDATES


def test_classes_without_samples_are_allowed():
    features, labels = problem(19, k=2)
    assert (
        choose_l2(features, labels * 3, Classes.numbered(9), sample_weight=np.ones(60))
        in CANDIDATES
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones(60)}, "features must be"),
        ({"features": np.full((60, 8), np.nan)}, "480 of them not finite"),
        ({"features": np.full((60, 8), np.inf)}, "480 of them not finite"),
        ({"targets": np.arange(59) % 3}, r"labels must have shape \(60,\)"),
        ({"targets": np.arange(60) % 4}, "from 0 to 2"),
        ({"targets": np.arange(60) % 3 - 1}, "from 0 to 2"),
        ({"targets": np.arange(60) % 3 * 1.0}, "type float64"),
        ({"targets": np.arange(60) % 2 == 0}, "type bool"),
        ({"sample_weight": np.ones(61)}, r"sample_weight must have shape \(60,\)"),
        ({"sample_weight": np.full(60, -1.0)}, "not negative"),
        ({"sample_weight": np.full(60, np.nan)}, "finite"),
        ({"groups": np.ones((60, 1))}, r"groups must have shape \(60,\)"),
    ],
)
def test_wrong_input_is_refused(change, message):
    features, labels = problem(20)
    given = {"features": features, "targets": labels, "sample_weight": np.ones(60)} | change
    with pytest.raises(InvalidParameterError, match=message):
        choose_l2(objective=Classes.numbered(3), **given)


def test_verbose_prints_the_choice(capsys):
    features, labels = problem(21)
    choice = chosen(features, labels, verbose=1)
    assert f"l2: {choice:.2g} by cross-validation" in capsys.readouterr().out
    chosen(features, labels)
    assert capsys.readouterr().out == ""
