"""Tests of the learning rates of a phase: their start, their decay, and their equality to Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferclf.exceptions import InvalidParameterError
from transferclf.training.schedules import check_schedule, rates

schedules = keras.optimizers.schedules
RATES = st.floats(1e-6, 10)
STEPS = st.integers(1, 300)

OF_KERAS = [
    schedules.CosineDecay(0.2, 30),
    schedules.CosineDecay(0.01, 20, warmup_target=0.2, warmup_steps=5),
    schedules.CosineDecayRestarts(0.2, 10),
    schedules.ExponentialDecay(0.2, 10, 0.5),
    schedules.ExponentialDecay(0.2, 10, 0.5, staircase=True),
    schedules.InverseTimeDecay(0.2, 10, 0.5, staircase=True),
    schedules.PiecewiseConstantDecay([5, 20], [0.2, 0.1, 0.01]),
    schedules.PolynomialDecay(0.2, 20, power=2.0, cycle=True),
]


class Steps(schedules.LearningRateSchedule):
    """A user-defined schedule, which branches on the step."""

    def __init__(self, *values):
        self.values = values

    def __call__(self, step):
        return self.values[min(int(step), len(self.values) - 1)]


def one_by_one(schedule, steps):
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(steps)]


class TestRates:
    @given(st.sampled_from([None, "plateau", "cosine", "exponential"]), RATES, STEPS)
    @settings(max_examples=150, deadline=None)
    def test_begin_at_the_learning_rate_and_never_rise(self, schedule, learning_rate, steps):
        result = rates(schedule, learning_rate, steps)
        assert result.shape == (steps,)
        assert result.dtype == np.float32
        assert result[0] == np.float32(learning_rate)
        assert (np.diff(result) <= 0).all()
        assert (result > 0).all(), "no step is of rate 0"

    @pytest.mark.parametrize("schedule", [None, "plateau"])
    def test_constant_rates_stay(self, schedule):
        assert set(rates(schedule, 0.5, 100)) == {0.5}

    @given(RATES, STEPS)
    @settings(max_examples=10, deadline=None)
    def test_cosine_is_that_of_keras(self, learning_rate, steps):
        expected = one_by_one(schedules.CosineDecay(learning_rate, steps), steps)
        np.testing.assert_allclose(
            rates("cosine", learning_rate, steps), expected, atol=1e-6 * learning_rate
        )

    @given(RATES, STEPS)
    @settings(max_examples=10, deadline=None)
    def test_exponential_is_that_of_keras(self, learning_rate, steps):
        expected = one_by_one(schedules.ExponentialDecay(learning_rate, steps, 0.01), steps)
        np.testing.assert_allclose(rates("exponential", learning_rate, steps), expected, rtol=1e-5)

    def test_halfway_and_end(self):
        cosine, exponential = (rates(name, 1.0, 1000) for name in ("cosine", "exponential"))
        assert cosine[500] == pytest.approx(0.5)
        assert cosine[-1] < 1e-5
        assert exponential[500] == pytest.approx(0.1)
        assert exponential[-1] == pytest.approx(0.01, rel=0.01)

    @pytest.mark.parametrize("schedule", [None, "cosine", "exponential", OF_KERAS[0], Steps(1.0)])
    def test_rates_of_no_steps_and_one(self, schedule):
        assert rates(schedule, 0.1, 0).shape == (0,)
        assert rates(schedule, 0.1, 1).tolist() == [np.float32(0.1)]

    @pytest.mark.parametrize("schedule", [None, "cosine"])
    @pytest.mark.parametrize("learning_rate", [0, -0.1, np.nan, np.inf, True, None, "0.1", [0.1]])
    def test_a_wrong_learning_rate_raises_an_error(self, schedule, learning_rate):
        with pytest.raises(InvalidParameterError, match="learning_rate must be a finite number"):
            rates(schedule, learning_rate, 10)

    @pytest.mark.parametrize("steps", [-1, 1.0, True, None, np.nan, "3", [3]])
    def test_wrong_steps_raise_an_error(self, steps):
        with pytest.raises(InvalidParameterError, match="steps must be a whole number"):
            rates("cosine", 0.1, steps)

    def test_numbers_can_be_of_numpy(self):
        assert rates("cosine", np.float32(0.5), np.int64(2)).tolist() == [0.5, 0.25]


class TestWarmUp:
    @given(
        st.sampled_from([None, "plateau", "cosine", "exponential"]),
        RATES,
        st.integers(0, 300),
        st.floats(0, 1, exclude_max=True),
    )
    @settings(max_examples=150, deadline=None)
    def test_it_rises_linearly_to_the_learning_rate(self, schedule, learning_rate, steps, warmup):
        result = rates(schedule, learning_rate, steps, warmup)
        assert result.shape == (steps,)
        assert result.dtype == np.float32
        assert (result > 0).all(), "no step is of rate 0"
        assert (result <= np.float32(learning_rate)).all()
        rising = int(warmup * steps)
        expected = learning_rate * np.arange(1, rising + 2) / (rising + 1)
        np.testing.assert_allclose(result[: rising + 1], expected[:steps], rtol=1e-6)
        if steps:
            assert result[rising] == result.max() == np.float32(learning_rate)
        np.testing.assert_array_equal(
            result[rising:], rates(schedule, learning_rate, steps - rising)
        )

    @given(st.sampled_from([None, "plateau", "cosine", "exponential"]), RATES, STEPS)
    @settings(max_examples=50, deadline=None)
    def test_no_warm_up_changes_nothing(self, schedule, learning_rate, steps):
        plain = rates(schedule, learning_rate, steps)
        np.testing.assert_array_equal(rates(schedule, learning_rate, steps, 0.0), plain)

    def test_by_hand(self):
        rising = rates(None, 0.5, 8, 0.5)
        assert rising.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5])
        assert rates("cosine", 0.5, 3, 0.3).tolist() == rates("cosine", 0.5, 3).tolist()

    @pytest.mark.parametrize("schedule", OF_KERAS, ids=lambda schedule: type(schedule).__name__)
    def test_schedules_of_keras_have_their_own(self, schedule):
        plain = rates(schedule, 0.05, 40)
        np.testing.assert_array_equal(rates(schedule, 0.05, 40, 0.5), plain)


class TestSchedulesOfKeras:
    @pytest.mark.parametrize("schedule", OF_KERAS, ids=lambda schedule: type(schedule).__name__)
    def test_schedules_are_kept_or_scaled(self, schedule):
        expected = np.array(one_by_one(schedule, 40))
        result = rates(schedule, None, 40)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-8)
        scaled = rates(schedule, 0.05, 40)
        np.testing.assert_allclose(scaled, expected * 0.05 / expected[0], rtol=1e-5, atol=1e-8)

    def test_a_user_defined_schedule(self):
        assert rates(Steps(0.5, 0.25), None, 4).tolist() == [0.5, 0.25, 0.25, 0.25]
        assert rates(Steps(0.5, 0.25), 1, 4).tolist() == [1, 0.5, 0.5, 0.5]

    def test_a_schedule_can_begin_at_zero(self):
        warm_up = schedules.CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=5)
        np.testing.assert_allclose(rates(warm_up, None, 3), [0, 0.02, 0.04], atol=1e-7)
        with pytest.raises(InvalidParameterError, match="begins at 0 cannot be scaled"):
            rates(warm_up, 0.1, 3)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
    def test_impossible_rates_raise_an_error(self, value):
        with pytest.raises(InvalidParameterError, match=r"finite .* Got .* at step 1 of Steps"):
            rates(Steps(0.1, value), None, 3)

    def test_a_constant_schedule(self):
        assert rates(Steps(0.25), None, 3).tolist() == [0.25] * 3


class TestCheck:
    @pytest.mark.parametrize(
        "value", [None, "plateau", "cosine", "exponential", *OF_KERAS, Steps(1)]
    )
    def test_right_values_pass(self, value):
        check_schedule(value)
        assert rates(value, 0.1, 3)[0] == np.float32(0.1)

    @pytest.mark.parametrize(
        "value",
        [
            *("", "Cosine", "linear", 0, True, 0.1, np.nan, b"cosine", ["cosine"], ("cosine",)),
            *({}, np.array("cosine"), schedules.CosineDecay, lambda step: 0.1),
        ],
    )
    def test_wrong_values_raise_an_error(self, value):
        with pytest.raises(InvalidParameterError, match="schedule must be None, 'auto', 'plateau'"):
            check_schedule(value)
        with pytest.raises(InvalidParameterError, match="schedule must be None, 'auto', 'plateau'"):
            rates(value, 0.1, 10)


def test_names_do_not_import_keras():
    code = """
import sys
from transferclf.training.schedules import check_schedule, rates
rates("cosine", 0.1, 5), rates(None, 0.1, 5), check_schedule("plateau")
try:
    check_schedule(object())
except ValueError:
    pass
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
