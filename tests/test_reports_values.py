"""Tests of digests of parameters: equal values have equal digests in every process."""

import functools
import operator
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from transferclf import Augmentation, ConvNet, FeatureStore, TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.experiments.values import described as described_as
from transferclf.reports.experiments.values import digest_of


def described(value):
    return described_as(value, "run 'a'")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(PLAIN, PLAIN)
def test_plain_values_are_told_apart_as_python_writes_them(one, other):
    def written(value):
        if isinstance(value, dict):
            return sorted((key, written(each)) for key, each in value.items())
        if isinstance(value, list | tuple):
            return type(value).__name__ + str([written(each) for each in value])
        return repr(value)

    assert (digest_of(described(one)) == digest_of(described(other))) == (
        (type(one), written(one)) == (type(other), written(other))
    )


def doubled(value):
    return 2 * value


def factory(factor):
    def scaled(value):
        return factor * value

    return scaled


class Fields:
    def __init__(self, a, b):
        self.a, self.b = a, b


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def networks(units, seed):
    import keras

    model = keras.Sequential(
        [keras.Input((4,), name="i"), keras.layers.Dense(units, "relu", name="d")], name="m"
    )
    model.set_weights([np.full(weight.shape, seed) for weight in model.get_weights()])
    return model


def optimizer(rate):
    import keras

    return keras.optimizers.Adam(rate)


def stopping(patience):
    import keras

    return keras.callbacks.EarlyStopping(patience=patience)


DIFFERENT = {
    "estimators": (lambda: SVC(C=1.0), lambda: SVC(C=2.0)),
    "nested": (
        lambda: make_pipeline(StandardScaler(), SVC(C=1.0)),
        lambda: make_pipeline(StandardScaler(), SVC(C=2.0)),
    ),
    "steps": (
        lambda: make_pipeline(StandardScaler(), SVC()),
        lambda: make_pipeline(StandardScaler(with_mean=False), SVC()),
    ),
    "grids": (
        lambda: GridSearchCV(SVC(), {"C": [1, 2]}, cv=StratifiedKFold(3)),
        lambda: GridSearchCV(SVC(), {"C": [1, 2]}, cv=StratifiedKFold(4)),
    ),
    "arrays": (lambda: np.arange(4), lambda: np.arange(4) * 1.0),
    "shapes": (lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    "arrays of objects": (lambda: np.array([None, "a"]), lambda: np.array([None, "b"])),
    "recipes": (lambda: Augmentation(rotation=5), lambda: Augmentation(rotation=6)),
    "networks": (lambda: ConvNet(), lambda: ConvNet(batch_norm="after")),
    "functions": (lambda: np.median, lambda: np.mean),
    "partials": (lambda: functools.partial(np.clip, 1), lambda: functools.partial(np.clip, 2)),
    "scorers": (lambda: make_scorer(f1_score), lambda: make_scorer(f1_score, average="macro")),
    "methods": (lambda: Fields(1, 2).__eq__, lambda: Fields(1, 3).__eq__),
    "built in": (lambda: operator.add, lambda: operator.mul),
    "transformers": (lambda: FunctionTransformer(np.sqrt), lambda: FunctionTransformer(np.cbrt)),
    "objects": (lambda: Fields(1, [2]), lambda: Fields(1, [3])),
    "slots": (lambda: Slots(1), lambda: Slots(2)),
    "generators": (lambda: np.random.RandomState(0), lambda: np.random.RandomState(1)),
    "new generators": (lambda: np.random.default_rng(0), lambda: np.random.default_rng(1)),
    "classes": (lambda: Fields, lambda: Slots),
    "paths": (lambda: Path("a"), lambda: Path("b")),
    "models": (lambda: networks(3, 0), lambda: networks(3, 1)),
    "optimizers": (lambda: optimizer(0.1), lambda: optimizer(0.2)),
    "callbacks": (lambda: stopping(3), lambda: stopping(4)),
    "frozen": (
        lambda: FrozenEstimator(GaussianNB().fit([[0.0], [1.0]], [0, 1])),
        lambda: FrozenEstimator(GaussianNB().fit([[0.0], [2.0]], [0, 1])),
    ),
    "1 and True": (lambda: 1, lambda: True),
    "1 and '1'": (lambda: 1, lambda: "1"),
    "list and tuple": (lambda: [1], lambda: (1,)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_equal_values_have_equal_digests_and_others_not(name):
    one, other = DIFFERENT[name]
    facts = described(one())
    assert digest_of(facts) == digest_of(described(one()))
    assert digest_of(facts) != digest_of(described(other()))


def test_parameters_without_effect_are_left_out(tmp_path):
    alike = [
        TransferClassifier(),
        TransferClassifier(verbose=1),
        TransferClassifier(cache=None),
        TransferClassifier(cache=FeatureStore(tmp_path)),
        clone(TransferClassifier()),
    ]
    assert len({digest_of(described(estimator)) for estimator in alike}) == 1
    searches = [GridSearchCV(SVC(), {"C": [1]}, n_jobs=n_jobs) for n_jobs in (None, 2)]
    assert described(searches[0]) == described(searches[1])
    assert described(make_pipeline(SVC())) == described(make_pipeline(SVC(), memory=str(tmp_path)))


def test_learned_attributes_are_left_out():
    assert described(GaussianNB().fit([[0.0], [1.0]], [0, 1])) == described(GaussianNB())


def test_weights_from_a_file_are_identified_by_its_bytes(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"one")
    one = described(TransferClassifier(weights=path))
    copy = tmp_path / "b.weights.h5"
    copy.write_bytes(b"one")
    assert described(TransferClassifier(weights=str(copy))) == one
    path.write_bytes(b"other")
    assert described(TransferClassifier(weights=path)) != one


def test_a_registered_network_is_identified_by_weights_and_architecture(monkeypatch):
    from transferclf import register_backbone
    from transferclf.backbones import registry as backbones

    def facts(scale, width=4):
        def build(input_shape):
            import keras

            inputs = keras.Input(input_shape)
            features = keras.layers.Rescaling(scale)(keras.layers.Conv2D(width, 3)(inputs))
            return keras.Model(inputs, features)

        monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
        register_backbone("mine", build, image_size=32, preprocessing="none", overwrite=True)
        return described(TransferClassifier("mine"))

    one = facts(1.0)
    assert facts(1.0) == one
    assert facts(2.0) != one
    assert facts(1.0, width=5) != one


REFUSED = {
    "functions": doubled,
    "lambdas": lambda x: x + 1,
    "closures": factory(2),
    "partials": functools.partial(doubled, 1),
    "deep inside": Fields(1, {"key": [doubled]}),
    "of a scorer": make_scorer(doubled),
}


@pytest.mark.parametrize("name", REFUSED)
def test_user_defined_functions_are_refused(name):
    # Pickle stores only the name of a function, which does not identify its code and its data.
    with pytest.raises(InvalidParameterError, match=r"^run 'a': .*may change under its name"):
        described(REFUSED[name])
    model = make_pipeline(FunctionTransformer(REFUSED[name]), SVC())
    told = r"^run 'a', parameter 'steps', parameter 'func': expected a value that can be told"
    with pytest.raises(InvalidParameterError, match=told):
        described(model)
    with pytest.raises(InvalidParameterError, match=r"^run 'a', parameter 'head': .*get_params"):
        described(TransferClassifier(head=REFUSED[name]))


class Head(BaseEstimator):
    """A callable object with parameters, which can replace a function."""

    def __init__(self, factor=2):
        self.factor = factor

    def __call__(self, maps):
        return maps * self.factor


def test_an_object_with_parameters_can_replace_a_function():
    one = described(TransferClassifier(head=Head()))
    assert one == described(TransferClassifier(head=Head()))
    assert one != described(TransferClassifier(head=Head(3)))


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in "ab"), Fields(1, sys.stdout)])
def test_unpicklable_values_are_refused(value):
    with pytest.raises(InvalidParameterError, match="run 'a': .*in a later process"):
        described([value])


def test_values_can_refer_to_themselves():
    def circle(value):
        made = Fields(value, None)
        made.b = made
        return made

    assert described(circle(1)) == described(circle(1))
    assert described(circle(1)) != described(circle(2))
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidParameterError, match="contains itself"):
        described(endless)


def test_digests_are_the_same_in_other_processes(in_another_process):
    code = (
        "from sklearn.metrics import f1_score, make_scorer\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from transferclf import Augmentation, TransferClassifier\n"
        "from transferclf.reports.experiments.values import described, digest_of\n"
        "import numpy as np, os\n"
        "value = [make_pipeline(TransferClassifier(augmentation=Augmentation(rotation=3))),\n"
        "         {'b', 'a', 'c'}, np.arange(5), make_scorer(f1_score), os.path.join]\n"
        "digest = digest_of(described(value, ''))\n"
    )
    here = {"__name__": "__main__"}
    exec(code, here)
    assert in_another_process(f"{code}print(digest)").strip() == here["digest"]
