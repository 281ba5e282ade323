"""Tests of a user-defined augmentation step, from fit to archive."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import Augmentation, ConvNet, TransferClassifier, load_model, save_model
from transferclf.augmentation import steps
from transferclf.augmentation.afresh import Augmenter
from transferclf.augmentation.steps import Step, register_step
from transferclf.augmentation.views import View
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.images import check_images
from transferclf.images.loading import content_digests

N, SIDE = 12, 32


@pytest.fixture(scope="module")
def stripes():
    return striped_images(N, np.random.default_rng(0))


@pytest.fixture(scope="module")
def labels():
    return np.arange(N) % 3


def tiny(backbone="tiny", **changes):
    parameters = {"image_size": SIDE, "l2": 0.1, "random_state": 0}
    return TransferClassifier(backbone, **(parameters | changes))


# --- an augmentation step


@dataclass
class Negative(Step):
    """Blend each image with its negative, by up to a share."""

    limits: ClassVar = {"negative": (0, 1)}
    negative: float = 0.0

    @staticmethod
    def apply(pixels, drawn):
        from keras import ops

        share = ops.abs(drawn)[:, :, None, None]
        return (1 - share) * pixels + share * (255 - pixels)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(steps, "STEPS", {})
    return register_step(Negative)


def shares(pixels, varied):
    """Share of the negative in each image; it has to be the same in all pixels of an image."""
    pixels = pixels.astype(float)
    found = (varied - pixels) / (255 - 2 * pixels)
    np.testing.assert_allclose(found, found[:, :1, :1, :1] + 0 * found, atol=1e-4)
    return found[:, 0, 0, 0]


def test_a_user_defined_step_is_in_views(stripes):
    digests = content_digests(check_images(stripes))
    drawn = shares(stripes, View(Augmentation(own_steps=(Negative(0.5),)), 1).of(stripes, digests))
    assert 0 <= drawn.min() < 0.2 < 0.3 < drawn.max() <= 0.5
    half = shares(stripes, View(Augmentation(own_steps=(Negative(0.25),)), 1).of(stripes, digests))
    assert half.max() <= 0.25


def test_a_user_defined_step_is_in_training_steps(stripes):
    augmenter = Augmenter(Augmentation(own_steps=[Negative(0.5)]))
    varied, *_ = augmenter(stripes, np.eye(N), np.ones(N))
    drawn = shares(stripes, np.asarray(varied))
    assert 0 <= drawn.min() < drawn.max() <= 0.5


@pytest.mark.parametrize("from_nothing", [False, True])
def test_a_user_defined_step_from_fit_to_archive(stripes, labels, registered, from_nothing):
    recipe = Augmentation(own_steps=(registered(1.0),), views=2)
    net = {"backbone": ConvNet((4,), dense_units=(8,)), "epochs": 2, "l2": "auto"}
    how = net if from_nothing else {}
    fitted = tiny(augmentation=recipe, **how).fit(stripes, labels)
    probabilities = fitted.predict_proba(stripes)
    plain = tiny(**how).fit(stripes, labels).predict_proba(stripes)
    assert np.abs(plain - probabilities).max() > 1e-4
    file = io.BytesIO()
    save_model(fitted, file)
    loaded = load_model(file)
    assert loaded.augmentation_ == loaded.augmentation == recipe
    np.testing.assert_allclose(loaded.predict_proba(stripes), probabilities, atol=1e-5)
    steps.STEPS.clear()
    with pytest.raises(ArchiveError, match="'Negative'"):
        load_model(file)


def test_archives_hold_registered_steps_only(stripes, labels):
    fitted = tiny(augmentation=Augmentation(own_steps=[Negative(0.5)], views=1)).fit(
        stripes, labels
    )
    with pytest.raises(InvalidParameterError, match="own_steps must be of plain values"):
        save_model(fitted, io.BytesIO())


def test_the_digest_of_a_view_depends_on_class_version_and_parameters():
    @dataclass
    class Next(Negative):
        version: ClassVar[int] = 2

    Next.__qualname__ = Negative.__qualname__
    views = [View(Augmentation(own_steps=own), 1) for own in ([Negative(0.5)], [Next(0.5)])]
    views.append(View(Augmentation(own_steps=[Negative(0.4)]), 1))
    assert len({view.digest for view in views}) == 3
    assert views[0] == View(Augmentation(own_steps=(Negative(np.float64(0.5)),), views=7), 1)


def test_a_view_keeps_a_copy_of_its_step():
    step = Negative(0.5)
    view = View(Augmentation(own_steps=[step]), 1)
    step.set_params(negative=0.1)
    assert view == View(Augmentation(own_steps=[Negative(0.5)]), 1)


@pytest.mark.parametrize("own", [Negative(0.5), [Negative], ["Negative"], None, {Negative: 1}])
def test_own_steps_must_be_a_sequence_of_steps(own):
    with pytest.raises(InvalidParameterError, match="own_steps of Augmentation must be a sequence"):
        Augmentation(rotation=5, own_steps=own).check()


def test_steps_check_their_limits():
    with pytest.raises(InvalidParameterError, match="negative of Negative must be a finite number"):
        Augmentation(own_steps=[Negative(1.5)]).check()


def test_names_of_steps_are_registered_once(registered):
    assert register_step(Negative) is registered
    other = type("Negative", (Step,), {"__module__": "elsewhere"})
    for kind, message in [(other, "a name of its own"), (Negative(1.0), "subclass"), (int, "sub")]:
        with pytest.raises(InvalidParameterError, match=message):
            register_step(kind)
