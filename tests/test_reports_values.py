"""Parameters by value: equal ones are told alike, in every process, and others are not."""

import functools
import operator
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from transferclf import Augmentation, ConvNet, FeatureStore, TransferClassifier
from transferclf.reports.experiments.values import described, digest_of, is_told

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
    assert is_told(described(one))


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
    "functions": (lambda: doubled, lambda: factory),
    "lambdas": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "sets in code": (lambda: lambda x: x in {"p", "q"}, lambda: lambda x: x in {"p", "r"}),
    "closures": (lambda: factory(2), lambda: factory(3)),
    "partials": (lambda: functools.partial(doubled, 1), lambda: functools.partial(doubled, 2)),
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
def test_equal_values_are_told_alike_and_others_not(name):
    one, other = DIFFERENT[name]
    facts = described(one())
    assert is_told(facts)
    assert digest_of(facts) == digest_of(described(one()))
    assert digest_of(facts) != digest_of(described(other()))


def test_what_changes_no_result_is_left_out(tmp_path):
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


def test_what_fit_learned_is_left_out():
    assert described(GaussianNB().fit([[0.0], [1.0]], [0, 1])) == described(GaussianNB())


def test_weights_from_a_file_are_known_by_its_bytes(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"one")
    one = described(TransferClassifier(weights=path))
    copy = tmp_path / "b.weights.h5"
    copy.write_bytes(b"one")
    assert described(TransferClassifier(weights=str(copy))) == one
    path.write_bytes(b"other")
    assert described(TransferClassifier(weights=path)) != one


def test_a_registered_network_is_known_by_its_builder(monkeypatch):
    from transferclf import register_backbone
    from transferclf.backbones import registry as backbones

    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    register_backbone("mine", networks, image_size=32, preprocessing="none")
    one = described(TransferClassifier("mine"))
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    del backbones._REGISTRY["mine"]
    register_backbone("mine", doubled, image_size=32, preprocessing="none")
    assert described(TransferClassifier("mine")) != one


WIDTH = 8


def _width():
    return WIDTH


def _head(maps):
    def inner(x):
        return x * _width()

    return _head if maps is None else inner(maps)


def test_functions_are_known_by_the_global_values_that_they_read(monkeypatch):
    before = described({"head": _head})
    assert described({"head": _head}) == before
    assert is_told(before)
    monkeypatch.setitem(globals(), "WIDTH", 16)
    assert described({"head": _head}) != before
    monkeypatch.undo()
    assert described({"head": _head}) == before
    monkeypatch.setitem(globals(), "_width", lambda: 8)
    assert described({"head": _head}) != before


def test_many_functions_that_call_each_other_are_soon_told():
    code = "".join(
        f"def f{i}(): return " + " + ".join(f"f{j}()" for j in range(12)) + "\n" for i in range(12)
    )
    space = {"__name__": "notebook"}
    exec(code, space)
    assert digest_of(described(space["f0"])) == digest_of(described(space["f0"]))


def test_what_cannot_be_told_equals_only_itself():
    lock = threading.Lock()
    assert not is_told(described(Fields(1, lock)))
    assert described(lock) == described(lock)
    assert described(lock) != described(threading.Lock())


def test_circles_end():
    circle = Fields(1, None)
    circle.b = circle
    assert not is_told(described(circle))


def test_other_processes_tell_the_same(in_another_process):
    code = (
        "from sklearn.pipeline import make_pipeline\n"
        "from transferclf import Augmentation, TransferClassifier\n"
        "from transferclf.reports.experiments.values import described, digest_of\n"
        "import numpy as np, os\n"
        "value = [make_pipeline(TransferClassifier(augmentation=Augmentation(rotation=3))),\n"
        "         {'b', 'a', 'c'}, np.arange(5), lambda x: x in {'p', 'q', 'r'}, os.path.join]\n"
        "digest = digest_of(described(value))\n"
    )
    here = {"__name__": "__main__"}
    exec(code, here)
    assert in_another_process(f"{code}print(digest)").strip() == here["digest"]
