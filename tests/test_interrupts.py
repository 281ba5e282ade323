"""Ctrl-C between any two lines leaves a complete state: the old one or the one reached."""

import copy
import sys

import keras
import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import TransferClassifier
from transferclf.estimators.transfer import TransferEstimator
from transferclf.training import phases, running

N = 24
IMAGES = striped_images(N, np.random.default_rng(6))
LABELS = np.arange(N) % 3


def tiny(**changes):
    parameters = {"image_size": 32, "hidden_units": (3,), "dropout": 0.2, "epochs": 3}
    parameters |= {"batch_size": 12, "random_state": 0, "warm_start": True}
    return TransferClassifier("tiny", **(parameters | changes))


class Interruption:
    """Raise KeyboardInterrupt before the n-th line of the given functions."""

    def __init__(self, functions, number):
        self.codes = {function.__code__ for function in functions}
        self.left = number
        self.was_raised = False

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def trace(self, frame, event, argument):
        if frame.f_code not in self.codes:
            return None
        if event == "line" and not self.was_raised:
            self.left -= 1
            if self.left < 0:
                self.was_raised = True
                raise KeyboardInterrupt
        return self.trace


def interrupted_everywhere(functions, prepared, work):
    """Yield the classifier after each possible interruption of `work` in these functions."""
    number = 0
    while True:
        classifier = prepared()
        with Interruption(functions, number) as interruption:
            try:
                work(classifier)
            except KeyboardInterrupt:
                assert interruption.was_raised
        if not interruption.was_raised:
            assert number > 0
            return
        yield classifier
        number += 1


def assert_whole(classifier):
    history = classifier.history_
    n_iter = len(history["loss"])
    assert {len(values) for values in history.values()} == {n_iter}
    assert classifier.n_iter_ == classifier.n_head_iter_ == n_iter
    assert history is classifier.head_.history
    assert classifier.l2_ == classifier.head_.l2
    assert sum(phase["length"] for phase in classifier.phases_) == n_iter
    assert [tuple(phase.values()) for phase in classifier.phases_] == [
        (phase.part, phase.unit, phase.length, phase.kept, phase.stopped_early)
        for phase in classifier.head_.phases
    ]


def assert_same(first, second):
    assert first.history_ == second.history_
    assert first.phases_ == second.phases_
    for a, b in zip(first.head_.parameters, second.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


IN_TRAINING = [
    running.Run._record,
    running.Run.train,
    running.Run._end,
    phases.fit_phase,
    phases._result,
    phases._phases,
]
PARTIAL_FIT = vars(TransferClassifier)["partial_fit"].fn
IN_THE_ESTIMATOR = [
    TransferEstimator._keep,
    TransferClassifier.fit,
]


@pytest.mark.slow
@pytest.mark.parametrize("functions", [IN_TRAINING, IN_THE_ESTIMATOR], ids=["training", "fit"])
def test_an_interrupted_new_classifier_continues_to_the_same_result(functions):
    whole = tiny().fit(IMAGES, LABELS)
    reached = set()
    for classifier in interrupted_everywhere(functions, tiny, lambda it: it.fit(IMAGES, LABELS)):
        if hasattr(classifier, "head_"):
            assert_whole(classifier)
            reached.add(classifier.n_iter_)
            expected = whole.history_["loss"][: classifier.n_iter_]
            assert classifier.history_["loss"] == expected
            if classifier.head_.checkpoint is None:  # training was complete
                assert_same(classifier, whole)
                continue
        else:
            assert vars(classifier) == vars(tiny())
        assert_same(classifier.fit(IMAGES, LABELS), whole)
    assert reached >= ({1, 2, 3} if functions is IN_TRAINING else {3})


@pytest.mark.slow
@pytest.mark.parametrize("functions", [IN_TRAINING, IN_THE_ESTIMATOR], ids=["training", "fit"])
def test_an_interrupted_fitted_classifier_has_the_old_or_the_new_state(functions):
    # One epoch is enough: the test is about a fit without warm_start, which starts anew.
    fitted = tiny(warm_start=False, epochs=1).fit(IMAGES, LABELS)
    new = copy.deepcopy(fitted).fit(IMAGES, LABELS[::-1])
    n_kept = [0, 0]

    def again(classifier):
        return classifier.fit(IMAGES, LABELS[::-1])

    for classifier in interrupted_everywhere(functions, lambda: copy.deepcopy(fitted), again):
        assert_whole(classifier)
        is_new = classifier.history_ == new.history_
        n_kept[is_new] += 1
        assert_same(classifier, new if is_new else fitted)
        assert classifier.classes_.tolist() == [0, 1, 2]
    assert min(n_kept) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
def test_interrupted_partial_fit_leaves_the_old_or_the_new_state():
    parts = (slice(0, 12), slice(12, 24))
    first = tiny().partial_fit(IMAGES[parts[0]], LABELS[parts[0]], [0, 1, 2])
    second = copy.deepcopy(first).partial_fit(IMAGES[parts[1]], LABELS[parts[1]])
    functions = [*IN_TRAINING, TransferEstimator._keep, PARTIAL_FIT]

    def more(classifier):
        return classifier.partial_fit(IMAGES[parts[1]], LABELS[parts[1]])

    for classifier in interrupted_everywhere(functions, lambda: copy.deepcopy(first), more):
        assert_whole(classifier)
        is_done = classifier.n_iter_ == 2
        assert_same(classifier, second if is_done else first)
        if not is_done:
            assert_same(more(classifier), second)


@pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
def test_an_interrupted_first_partial_fit_leaves_an_unfitted_classifier():
    functions = [TransferEstimator._keep, PARTIAL_FIT]

    def begin(classifier):
        return classifier.partial_fit(IMAGES[:12], LABELS[:12], [0, 1, 2])

    for classifier in interrupted_everywhere(functions, tiny, begin):
        if not hasattr(classifier, "head_"):
            assert vars(classifier) == vars(tiny())


@pytest.mark.slow
def test_an_interruption_by_a_callback_in_a_later_phase_keeps_the_phases():
    def interrupt(epoch, logs):
        if len(seen) == 4:  # two epochs of the head, then the second of fine-tuning
            raise KeyboardInterrupt
        seen.append(epoch)

    seen = []
    classifier = tiny(trainable_layers="top", epochs=2, fine_tune_epochs=3)
    stopping = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        classifier.set_params(callbacks=[stopping]).fit(IMAGES, LABELS)
    assert [(phase["part"], phase["length"]) for phase in classifier.phases_] == [
        ("head", 2),
        ("fine-tuning", 2),
    ]
    classifier.set_params(callbacks=None).fit(IMAGES, LABELS)
    assert [(phase["part"], phase["length"]) for phase in classifier.phases_] == [
        ("head", 2),
        ("fine-tuning", 3),
    ]
    assert classifier.n_head_iter_ == 2
