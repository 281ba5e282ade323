"""Heads on features in a file: read in blocks, they give the heads of features in memory."""

import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import TransferClassifier, TransferRegressor
from transferclf.features import row_space
from transferclf.features.row_file import RowFile
from transferclf.heads import blocks
from transferclf.heads.linear import fit_linear
from transferclf.heads.ridge import fit_ridge
from transferclf.heads.scaling import Moments
from transferclf.objectives import Classes, MultiLabel, Numbers
from transferclf.training.batches import Samples
from transferclf.training.leave_one_out import CANDIDATES, choose_ridge_l2, distinct_samples
from transferclf.training.regularization import choose_l2

N_OF_BLOCK = 7


@pytest.fixture
def in_file(monkeypatch):
    """Return a function that puts features in a file, of which few rows may be read at once."""
    files, read = [], RowFile.__getitem__

    def put(features):
        file = RowFile(features.shape, features.dtype)
        file[:] = features
        files.append(file)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", N_OF_BLOCK * file.row_bytes)
        monkeypatch.setattr(blocks, "GROUP_BYTES", 2 * N_OF_BLOCK * file.row_bytes)
        monkeypatch.setattr("transferclf.training.leave_one_out.PART_BYTES", 8 * file.row_bytes)
        return file

    def counted(self, positions):
        rows = read(self, positions)
        assert np.ndim(rows) < 2 or len(rows) <= 2 * N_OF_BLOCK, "read as a whole"
        return rows

    monkeypatch.setattr(RowFile, "__getitem__", counted)
    yield put
    for file in files:
        file.close()


def problem(n=90, d=6, k=3, copies=0):
    """Return features with large means, labels and weights, some of which are zero."""
    rng = np.random.default_rng(n + d)
    labels = np.arange(n) % k
    features = rng.normal(size=(n, d)) + rng.normal(size=(k, d))[labels] + 100
    features, labels = features[: n - copies], labels[: n - copies]
    features, labels = np.vstack([features, features[:copies]]), np.tile(labels, 2)[:n]
    weights = rng.integers(0, 3, n).astype(float)
    return features.astype(np.float32), labels, weights


def objectives(labels):
    rng = np.random.default_rng(0)
    numbers = labels + rng.normal(size=len(labels)) / 3
    sets = np.stack([labels > 0, rng.random(len(labels)) < 0.3], axis=1).astype(int)
    yield Classes.numbered(labels.max() + 1), labels
    yield MultiLabel.encode(sets, len(labels))
    yield Numbers.encode(numbers, len(labels), loss="huber")


def test_moments_are_those_of_scikit_learn(in_file):
    features, _, weights = problem()
    features[:, 2] = 7.0
    found, expected = Moments.of(in_file(features), weights), Moments.of(features, weights)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.scale(), expected.scale(), rtol=1e-6)
    assert (found.count, found.n_images, found.rounding) == (weights.sum(), 90, expected.rounding)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("d", [6, 120])
def test_linear_heads_are_those_of_features_in_memory(in_file, d, number):
    features, labels, weights = problem(d=d)
    objective, targets = list(objectives(labels))[number]
    options = {"l2": 0.02, "sample_weight": weights}
    validation = (features[:30], targets[:30], np.ones(30))
    expected = fit_linear(features, targets, objective, validation=validation, **options)
    watched = (in_file(features[:30]), *validation[1:])
    found = fit_linear(in_file(features), targets, objective, validation=watched, **options)
    np.testing.assert_allclose(
        found.scores(features), expected.scores(features), rtol=1e-3, atol=3e-3
    )
    for name, values in expected.history.items():
        assert found.history[name][-1] == pytest.approx(values[-1], abs=2e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("copies", [0, 20])
@pytest.mark.parametrize("number", range(3))
def test_the_same_penalty_is_chosen(in_file, number, copies):
    features, labels, weights = problem(copies=copies)
    objective, targets = list(objectives(labels))[number]
    groups = np.arange(len(labels)) // 2
    for options in ({}, {"groups": groups}):
        options |= {"sample_weight": weights}
        expected = choose_l2(features, targets, objective, **options)
        assert choose_l2(in_file(features), targets, objective, **options) == expected


@pytest.mark.parametrize("d", [6, 120])
@pytest.mark.parametrize("copies", [0, 20])
def test_ridge_heads_are_those_of_features_in_memory(in_file, d, copies):
    features, labels, weights = problem(d=d, copies=copies)
    *_, (_, targets) = objectives(labels)
    objective, targets = Numbers.encode(targets[:, 0], len(targets))
    file = in_file(features)
    options = {"l2": 0.05, "sample_weight": weights}
    found = fit_ridge(file, targets, objective, **options)
    expected = fit_ridge(features, targets, objective, **options)
    np.testing.assert_allclose(found.scores(features), expected.scores(features), atol=1e-3)
    for groups in (None, np.arange(len(labels)) // 3):
        choice = {"sample_weight": weights, "groups": groups}
        assert choose_ridge_l2(file, targets, objective, **choice) == choose_ridge_l2(
            features, targets, objective, **choice
        )
        losses = [
            distinct_samples(each, targets, weights, groups).losses(CANDIDATES[5:25])
            for each in (file, features)
        ]
        np.testing.assert_allclose(*losses, rtol=1e-3)


def test_arrays_that_are_large_in_double_precision_are_used_in_blocks(monkeypatch):
    features, labels, weights = problem()
    classes = Classes.numbered(3)
    expected = fit_linear(features, labels, classes, l2=0.01, sample_weight=weights)
    monkeypatch.setattr(blocks, "MAX_DOUBLE_BYTES", features.size * 8 - 1)
    assert blocks.are_in_blocks(features)
    found = fit_linear(features, labels, classes, l2=0.01, sample_weight=weights)
    np.testing.assert_allclose(
        found.scores(features), expected.scores(features), rtol=1e-3, atol=3e-3
    )


def test_a_mask_of_a_mask_has_the_rows_of_both():
    features = problem()[0]
    moments = Moments.of(features, np.ones(90))
    rows = blocks.BlockRows(features, moments.mean, moments.scale())
    whole = rows @ np.eye(6)
    first, second = np.arange(90) % 2 == 0, np.arange(45) % 3 > 0
    np.testing.assert_array_equal(rows[first][second] @ np.eye(6), whole[first][second])
    np.testing.assert_allclose(whole, (features - moments.mean) / moments.scale(), atol=1e-5)
    assert (rows[first[:90] & False] @ np.eye(6)).shape == (0, 6)


def test_repeated_samples_of_a_file_have_larger_weights(in_file):
    features, labels, _ = problem()
    positions = np.concatenate([np.arange(30), np.arange(10)])
    rows, targets, weights = Samples.of(
        in_file(features), labels[:45], np.full(45, 2.0), positions
    ).unrolled()
    assert (len(rows), len(targets)) == (90, 90)
    expected = np.repeat([4.0, 2.0, 0.0], [10, 20, 15])
    np.testing.assert_array_equal(weights, np.tile(expected, 2))


@pytest.mark.parametrize("kind", [TransferClassifier, TransferRegressor])
def test_a_frozen_backbone_with_features_beyond_max_memory(kind, monkeypatch, tmp_path):
    images, y = striped_images(60, np.random.default_rng(0)), np.arange(60) % 3
    made = []

    class Recorded(RowFile):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self.shape)

    options = {"image_size": 32, "random_state": 0}
    if kind is TransferClassifier:
        options["oversample"] = True
    expected = kind(**options).fit(images, y[::-1].copy())
    monkeypatch.setattr(row_space, "RowFile", Recorded)
    found = kind(**options, max_memory="10kB").fit(images, y[::-1].copy())
    assert made == [(60, found.head_.mean.size)]
    assert found.l2_ == expected.l2_
    results = [
        each.predict_proba(images) if hasattr(each, "predict_proba") else each.predict(images)
        for each in (found, expected)
    ]
    np.testing.assert_allclose(*results, atol=2e-3)
    assert len(made) == 2
