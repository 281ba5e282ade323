"""Checks of parameters that the whole package shares."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import activations

from transferclf import ConvNet
from transferclf._checks import (
    check_choice,
    check_flag,
    check_head,
    check_number,
    check_rates,
    check_seed,
    check_verbose,
    check_widths,
)
from transferclf.exceptions import InvalidParameterError

NAMES = sorted(name for name in vars(activations) if not name.startswith("_"))
# Names that need arguments, halve the number of features, or are no activations.
UNUSABLE = {"threshold", "glu", "get", "serialize", "deserialize"}


def refusal(check, *arguments):
    with pytest.raises(InvalidParameterError) as refused:
        check(*arguments)
    return str(refused.value)


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_an_activation_is_refused_by_networks_and_heads_with_the_same_error(name):
    of_network = refusal(ConvNet((4,), activation=name).check)
    of_head = refusal(check_head, (4,), name, 0.0)
    assert of_network.replace("activation of ConvNet", "activation") == of_head
    assert of_head == (
        "activation must be one of Keras' names that needs no arguments and keeps the number of "
        f"features, such as 'relu', 'sigmoid', 'tanh' or 'gelu'. Got {name!r} instead."
    )


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNUSABLE))
def test_all_other_activations_of_keras_work_in_networks_and_heads(name):
    check_head((4,), name, 0.0)
    features = (
        ConvNet((4,), convs_per_block=1, dense_units=(), activation=name)
        .build((4, 4, 3))
        .outputs[0]
    )
    scores = keras.layers.Dense(5, activation=name)(features)
    assert (features.shape, scores.shape) == ((None, 4), (None, 5))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((-1, 0), "a finite number of at least 0. Got -1 instead"),
        ((2, 0, 1), "a finite number from 0 to 1. Got 2 instead"),
        ((math.inf, 0), "a finite number of at least 0. Got inf instead"),
        ((math.nan, 0, 1), "a finite number from 0 to 1. Got nan instead"),
        ((True, 0), "a finite number of at least 0. Got True instead"),
        (("1", 0), "a finite number of at least 0. Got '1' instead"),
    ],
)
def test_numbers_out_of_bounds_are_refused(arguments, expected):
    assert refusal(check_number, "rate", *arguments) == f"rate must be {expected}."


def test_bounds_may_be_left_out():
    for value, options, expected in (
        (0, {"above": True}, "a finite number above 0 and at most 1"),
        (1, {"below": True}, "a finite number from 0 to below 1"),
        (1, {"above": True, "below": True}, "a finite number above 0 and below 1"),
        (0.5, {"whole": True}, "a whole number from 0 to 1"),
        (7, {"or_else": "None or "}, "None or a finite number from 0 to 1"),
    ):
        with pytest.raises(InvalidParameterError, match=f"rate must be {expected}. Got {value}"):
            check_number("rate", value, 0, 1, **options)


def test_numbers_within_bounds_are_accepted():
    for value in (0, 1, 0.5, np.float32(0.25), Fraction(1, 3)):
        check_number("rate", value, 0, 1)
    check_number("rate", np.int64(3), 1, whole=True)
    check_number("rate", 10**400, 0, whole=True)


def test_checks_of_choices_flags_and_levels():
    check_choice("order", None, (None, "size"))
    check_flag("shuffle", np.bool_(False))
    check_verbose(True)
    check_verbose(2)
    assert refusal(check_choice, "order", "Size", (None, "size")) == (
        "order must be one of None, 'size'. Got 'Size' instead."
    )
    assert "must be one of 'a'" in refusal(check_choice, "order", np.array(["a"]), ("a",))
    assert refusal(check_flag, "shuffle", 1) == "shuffle must be True or False. Got 1 instead."
    assert "verbose must be a whole number of at least 0" in refusal(check_verbose, 0.5)


def test_checks_of_widths_rates_and_seeds():
    check_widths("filters", np.array([4, 8]))
    check_rates("dropout", 0.5, 2, "one for each layer")
    check_rates("dropout", (0, np.float32(0.5)), 2, "one for each layer")
    check_seed(2**32 - 1)
    for widths in (8, (0,), (1.5,), (True,), np.ones((2, 2), int), "8"):
        assert refusal(check_widths, "filters", widths).startswith("filters must be a sequence of")
    for rates in (1, -0.5, (0.5, 1), "0.5", None):
        assert "a rate from 0 to below 1" in refusal(check_rates, "dropout", rates, 2, "")
    assert refusal(check_rates, "dropout", (0.5,), 2, "one for each layer") == (
        "dropout must be one number or 2: one for each layer. Got (0.5,) instead."
    )
    for seed in (-1, 2**32, 1.0, True):
        assert "from 0 to 2**32 - 1" in refusal(check_seed, seed)
