"""Oversampling and validation splits: the repeated samples and the held-out ones."""

import random
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.balancing import oversampled_indices, validation_split

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0.01, 0.99)
WRONG_SEEDS = [-1, 2**32, 1.0, True, None, "0", np.nan]


def global_state():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - to check that it stays the same
    return name, keys.tobytes(), *rest, random.getstate()


class TestOversampling:
    @given(LABELS, SEEDS)
    @settings(max_examples=200, deadline=None)
    def test_every_class_has_as_many_as_the_largest_and_nothing_is_lost(self, labels, seed):
        indices = oversampled_indices(labels, seed)
        assert indices.dtype.kind == "i"
        assert indices[: len(labels)].tolist() == list(range(len(labels)))
        _, before = np.unique(labels, return_counts=True)
        _, after = np.unique(np.array(labels)[indices], return_counts=True)
        assert (after == before.max()).all()
        assert len(after) == len(before)

    @given(LABELS, SEEDS)
    @settings(max_examples=200, deadline=None)
    def test_no_sample_comes_twice_more_often_than_another_of_its_class(self, labels, seed):
        times = np.bincount(oversampled_indices(labels, seed), minlength=len(labels))
        for label in set(labels):
            of_class = times[np.array(labels) == label]
            assert of_class.max() - of_class.min() <= 1

    @given(LABELS, SEEDS)
    @settings(max_examples=50, deadline=None)
    def test_is_determined_by_the_seed_and_leaves_random_state_alone(self, labels, seed):
        before = global_state()
        first = oversampled_indices(labels, seed)
        assert global_state() == before
        np.testing.assert_array_equal(oversampled_indices(labels, seed), first)

    def test_another_seed_draws_others(self):
        labels = [0] * 150 + [1] * 100
        drawn = {tuple(oversampled_indices(labels, seed)[250:]) for seed in range(5)}
        assert len(drawn) == 5
        assert all(len(set(indices)) == 50 for indices in drawn), "drawn without replacement"

    def test_balanced_classes_stay_unchanged(self):
        assert oversampled_indices([1, 0, 0, 1], 0).tolist() == [0, 1, 2, 3]

    def test_whole_repetitions_come_first(self):
        assert sorted(oversampled_indices([0] * 6 + [1] * 3, 0)[9:]) == [6, 7, 8]

    @pytest.mark.parametrize(
        "labels",
        [
            np.array(["cat", "cat", "dog"]),
            ["cat", "cat", "dog"],
            np.array(["cat", "cat", "dog"], dtype=object),
            pd.Series(["cat", "cat", "dog"], index=[7, 3, 9]),
            [True, True, False],
            np.array([[1], [1], [0]]),
            [2.0, 2.0, -1.0],
        ],
    )
    def test_labels_of_any_kind(self, labels):
        assert oversampled_indices(labels, 0).tolist() == [0, 1, 2, 2]

    @pytest.mark.parametrize("seed", WRONG_SEEDS)
    def test_wrong_seeds_are_refused(self, seed):
        with pytest.raises(InvalidParameterError, match=r"seed must be a whole number from 0"):
            oversampled_indices([0, 1], seed)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([], "at least one image. Got none"),
            ([0.0, np.nan], "Got none at index 1"),
            ([None, "a"], "Got none at index 0"),
            (np.array(["a", np.nan], dtype=object), "Got none at index 1"),
            ([[0, 1], [1, 0]], "1d"),
            (3, "1d"),
        ],
    )
    def test_wrong_labels_are_refused(self, labels, message):
        with pytest.raises(ValueError, match=message):
            oversampled_indices(labels, 0)


def refusal(labels, fraction, seed):
    """Return the error message of a fraction, or None."""
    try:
        validation_split(labels, fraction, seed)
    except InvalidParameterError as error:
        return str(error)
    return None


@st.composite
def splittable(draw):
    """Draw labels with at least two samples of each class."""
    return draw(st.permutations(2 * draw(st.lists(st.integers(0, 4), min_size=1, max_size=30))))


class TestValidationSplit:
    @given(splittable(), FRACTIONS, SEEDS)
    @settings(max_examples=200, deadline=None)
    def test_nothing_is_lost_doubled_or_untrained(self, labels, fraction, seed):
        try:
            train, validation = validation_split(labels, fraction, seed)
        except InvalidParameterError:
            assume(False)
        assert train.dtype.kind == validation.dtype.kind == "i"
        assert np.union1d(train, validation).tolist() == list(range(len(labels)))
        assert len(train) + len(validation) == len(labels)
        assert len(validation) == np.ceil(len(labels) * fraction)
        assert (np.diff(train) > 0).all()
        assert (np.diff(validation) > 0).all()
        assert {labels[index] for index in train} == set(labels)

    @given(splittable(), FRACTIONS, SEEDS)
    @settings(max_examples=200, deadline=None)
    def test_the_fraction_that_an_error_names_would_do(self, labels, fraction, seed):
        message = refusal(labels, fraction, seed)
        if message is None:
            return
        named = float(re.search(r"Take at (?:least|most) ([\d.]+)\.$", message)[1])
        assert (named > fraction) == ("at least" in message)
        # It is shown with six digits: as much as that nearer to a half.
        named += 1e-6 * np.sign(0.5 - named)
        again = refusal(labels, named, seed)
        # The largest that leaves enough may still miss a small class; a half does not.
        assert again is None or "Take at most 0.5" in again
        assert refusal(labels, 0.5, seed) is None

    @given(st.lists(st.integers(4, 30), min_size=1, max_size=5), SEEDS)
    @settings(max_examples=100, deadline=None)
    def test_classes_are_in_proportion(self, sizes, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        _, validation = validation_split(labels, 0.25, seed)
        held_out = np.bincount(labels[validation], minlength=len(sizes))
        assert np.abs(held_out - 0.25 * np.array(sizes)).max() <= 1 + 1e-9

    @given(splittable(), st.integers(1, 3), SEEDS, st.data())
    @settings(max_examples=150, deadline=None)
    def test_copies_are_never_on_both_sides(self, labels, copies, seed, data):
        order = data.draw(st.permutations(range(len(labels) * copies)))
        groups = [b"%d\0" % (index // copies) for index in order]
        of_copies = [labels[index // copies] for index in order]
        try:
            train, validation = validation_split(of_copies, 0.4, seed, groups)
        except InvalidParameterError:
            assume(False)
        assert not {groups[index] for index in train} & {groups[index] for index in validation}
        assert sorted([*train, *validation]) == list(range(len(groups)))
        assert {of_copies[index] for index in train} == set(labels)

    @given(splittable(), SEEDS)
    @settings(max_examples=50, deadline=None)
    def test_groups_of_one_are_no_groups(self, labels, seed):
        try:
            expected = validation_split(labels, 0.5, seed)
        except InvalidParameterError:
            assume(False)
        for groups in (list(map(str, range(len(labels)))), np.arange(len(labels))):
            for got, wanted in zip(
                validation_split(labels, 0.5, seed, groups), expected, strict=True
            ):
                np.testing.assert_array_equal(got, wanted)

    def test_digests_that_end_in_zero_bytes_are_different(self):
        groups = [b"a", b"a\0", b"b", b"b\0"]
        train, validation = validation_split([0, 0, 1, 1], 0.5, 0, groups)
        assert len(train) == len(validation) == 2
        assert len({groups[index][:1] for index in validation}) == 2

    def test_is_determined_by_the_seed_and_leaves_random_state_alone(self):
        labels = np.arange(200) % 4
        before = global_state()
        splits = [validation_split(labels, 0.2, seed)[1] for seed in (0, 1, 0)]
        assert global_state() == before
        np.testing.assert_array_equal(splits[0], splits[2])
        assert (splits[0] != splits[1]).any()

    def test_oversampling_after_splitting_does_not_leak(self):
        labels = np.repeat([0, 1], [90, 10])
        train, validation = validation_split(labels, 0.2, 0)
        trained_on = train[oversampled_indices(labels[train], 0)]
        assert not set(trained_on) & set(validation)
        assert np.bincount(labels[trained_on]).tolist() == [72, 72]

    @pytest.mark.parametrize(
        "labels", [["a", "a", "b", "b"], pd.Series([2, 2, 1, 1]), [1.5, 1.5, 0, 0]]
    )
    def test_labels_of_any_kind(self, labels):
        train, validation = validation_split(labels, 0.5, 0)
        assert np.asarray(labels)[train].tolist() == np.asarray(labels)[validation].tolist()

    @pytest.mark.parametrize(
        "fraction", [0, 1, 0.0, 1.0, -0.1, 1.5, np.nan, np.inf, True, None, "0.1", [0.1]]
    )
    def test_wrong_fractions_are_refused(self, fraction):
        with pytest.raises(InvalidParameterError, match="above 0 and below 1. Got "):
            validation_split([0, 0, 1, 1], fraction, 0)

    @pytest.mark.parametrize("seed", WRONG_SEEDS)
    def test_wrong_seeds_are_refused(self, seed):
        with pytest.raises(InvalidParameterError, match="seed must be a whole number"):
            validation_split([0, 0, 1, 1], 0.5, seed)

    def test_a_class_of_one_is_refused(self):
        with pytest.raises(
            ValueError, match="two images of each class.* 1 of 'bird', 1 of 'fish';"
        ):
            validation_split(["cat", "cat", "cat", "fish", "bird"], 0.5, 0)

    def test_a_class_of_one_repeated_image_is_refused(self):
        with pytest.raises(ValueError, match="two different images of each class.* 1 of 'dog';"):
            validation_split(["cat"] * 4 + ["dog"] * 3, 0.5, 0, groups=[1, 2, 3, 4, 5, 5, 5])

    def test_a_class_of_copies_of_another_is_refused(self):
        with pytest.raises(ValueError, match="Got 0 of 1;"):
            validation_split([0, 0, 1, 1], 0.5, 0, groups=["a", "b", "a", "b"])

    def test_the_error_names_some_of_many_classes(self):
        with pytest.raises(ValueError, match="1 of 9 and 90 more;"):
            validation_split(np.arange(100), 0.5, 0)

    def test_too_few_validation_images_are_refused(self):
        message = r"0\.01 is 1 of 100 images, too few .* \(10 of 0, .*Take at least 0\.1\."
        with pytest.raises(InvalidParameterError, match=message):
            validation_split(np.arange(100) % 10, 0.01, 0)
        assert len(validation_split(np.arange(100) % 10, 0.1, 0)[1]) == 10

    def test_too_few_training_images_are_refused(self):
        with pytest.raises(InvalidParameterError, match=r"leaves 1 of 4 .*Take at most 0\.5\."):
            validation_split([0, 0, 1, 1], 0.75, 0)

    def test_a_class_without_training_images_is_refused(self):
        with pytest.raises(
            InvalidParameterError, match=r"some classes: 0 of 'rare'\. Take at most"
        ):
            validation_split(["often"] * 98 + ["rare"] * 2, 0.9, 0)

    @pytest.mark.parametrize("groups", [[], [1], range(5), "abc"])
    def test_a_wrong_number_of_groups_is_refused(self, groups):
        with pytest.raises(ValueError, match="expected one group for each of 4 images. Got"):
            validation_split([0, 0, 1, 1], 0.5, 0, groups)

    @pytest.mark.parametrize("labels", [[], [0, None, 0, 1], [[0, 0, 1, 1]]])
    def test_wrong_labels_are_refused(self, labels):
        with pytest.raises(ValueError, match="expected a label|1d"):
            validation_split(labels, 0.5, 0)
