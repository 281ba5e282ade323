"""warm: the features that fits and searches need are stored ahead of them."""

import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    ConvNet,
    FeatureStore,
    TransferClassifier,
    TransferRegressor,
    UnknownRejector,
    warm,
)
from transferclf.estimators import warming
from transferclf.exceptions import ImageReadError, InvalidParameterError, TransferclfWarning
from transferclf.features import shared_store

N = 40


@pytest.fixture(scope="module")
def images():
    X = striped_images(N, np.random.default_rng(0))
    return np.concatenate([X, X[:2]]), np.arange(N + 2) % 2


def tiny(kind=TransferClassifier, **parameters):
    parameters = {"image_size": 32, "cache": FeatureStore()} | parameters
    return kind("tiny", **parameters)


def misses_of(store, work):
    """Return how many features were asked for and not found."""
    before = store.info().misses
    work()
    return store.info().misses - before


class TestReport:
    def test_it_says_what_was_done(self, images):
        X, _ = images
        classifier = tiny()
        before = dict(vars(classifier))
        report = warm(X, classifier)
        assert (report.images, report.distinct, report.passes) == (N + 2, N, 1)
        assert (report.computed, report.known, report.path) == (N, 0, None)
        assert report.nbytes == classifier.cache.info().nbytes > 0
        assert report.seconds > 0
        assert vars(classifier) == before
        again = warm(X[2:], classifier)
        assert (again.computed, again.known) == (0, N)
        text = repr(again)
        assert text.startswith(f"Warmed(images={N}, distinct={N}, passes=1, computed=0, known=")

    def test_a_store_on_disk_is_named(self, images, tmp_path):
        report = warm(images[0][:5], "tiny", cache=tmp_path)
        assert report.path == str(tmp_path)
        assert report.computed == 5

    def test_many_images_are_done_in_parts(self, images, monkeypatch):
        monkeypatch.setattr(warming, "CHUNK", 16)
        X, y = images
        classifier = tiny()
        report = warm(X, classifier)
        assert (report.distinct, report.computed) == (N, N)
        assert misses_of(classifier.cache, lambda: classifier.fit(X, y)) == 0

    def test_a_backbone_uses_the_store_of_the_process(self, images):
        before = shared_store().info().entries
        assert warm(images[0][:3], "tiny").computed == 3
        assert shared_store().info().entries == before + 3


ESTIMATORS = {
    "extractor": (lambda store: tiny(CNNFeatureExtractor, cache=store, layer="top_relu"), 1),
    "regressor": (lambda store: tiny(TransferRegressor, cache=store), 1),
    "hidden layer": (lambda store: tiny(cache=store, hidden_units=4, epochs=1), 1),
    "views": (lambda store: tiny(cache=store, augmentation=Augmentation(rotation=9, views=2)), 3),
    "crops": (
        lambda store: tiny(cache=store, image_size=(32, 40), test_time_augmentation="crops"),
        3,
    ),
    "trained layers": (
        lambda store: tiny(
            cache=store, trainable_layers=1, fine_tune_epochs=1, augmentation=None, soup=1.0
        ),
        2,
    ),
    "a pipeline": (lambda store: make_pipeline(tiny(CNNFeatureExtractor, cache=store), PCA(2)), 1),
    "after a step": (
        lambda store: make_pipeline(
            FunctionTransformer(np.flip), tiny(CNNFeatureExtractor, cache=store), PCA(2)
        ),
        1,
    ),
    "a rejector": (lambda store: UnknownRejector(tiny(cache=store)), 1),
    "a search": (
        lambda store: GridSearchCV(
            tiny(cache=store), {"l2": [0.1, 1.0], "image_size": [32, 40]}, cv=2
        ),
        2,
    ),
    "a search over a pipeline": (
        lambda store: GridSearchCV(
            make_pipeline(tiny(CNNFeatureExtractor, cache=store), RidgeClassifier()),
            [{"cnnfeatureextractor__pooling": ["avg", "max"], "ridgeclassifier__alpha": [1, 10]}],
            cv=2,
        ),
        2,
    ),
}


KINDS = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind == "trained layers" else [])
    for kind in ESTIMATORS
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::transferclf.exceptions.TransferclfWarning")
def test_nothing_is_left_to_compute_for_fit_and_predict(images, kind):
    X, y = images
    make, passes = ESTIMATORS[kind]
    store = FeatureStore()
    estimator = make(store)
    report = warm(X, estimator)
    assert report.passes == passes
    assert report.computed == N * passes
    assert misses_of(store, lambda: getattr(estimator.fit(X, y), "predict", len)(X)) == 0


@pytest.mark.slow
def test_the_choice_of_layers_finds_all_features(images):
    X, y = images
    classifier = tiny(trainable_layers="auto", fine_tune_epochs=2, augmentation=None)
    warm(X, classifier)
    assert misses_of(classifier.cache, lambda: classifier.fit(X, y)) == 0


def test_scores_are_those_without_warming(images):
    X, y = images
    warmed, cold = tiny(l2=0.1), tiny(l2=0.1)
    warm(X, warmed)
    np.testing.assert_array_equal(
        warmed.fit(X, y).predict_proba(X), cold.fit(X, y).predict_proba(X)
    )


class TestRefused:
    @pytest.mark.parametrize(
        ("estimator", "expected"),
        [
            (tiny(cache=None), "got cache=None: set its cache to a folder"),
            (tiny(weights=None), "set random_state to a whole number"),
            (TransferClassifier(ConvNet((4,)), image_size=16), "trains all layers"),
            (LogisticRegression(), "with frozen layers, got none"),
            (
                RandomizedSearchCV(tiny(), {"image_size": range(32, 64)}),
                "expected all values of 'image_size', on which features depend, as a list",
            ),
        ],
    )
    def test_an_estimator_without_features_to_store(self, images, estimator, expected):
        with pytest.raises(InvalidParameterError, match=expected):
            warm(images[0][:5], estimator)

    def test_bad_images_are_all_named(self, tmp_path, monkeypatch, images):
        from PIL import Image

        monkeypatch.setattr(warming, "CHUNK", 4)
        paths = [tmp_path / f"{number}.bmp" for number in range(10)]
        for path, picture in zip(paths, images[0], strict=False):
            Image.fromarray(picture).save(path)
        for number in (1, 9):
            paths[number].write_bytes(paths[number].read_bytes()[:-20])
        with pytest.raises(ImageReadError) as error:
            warm(paths, tiny())
        assert list(error.value.indices) == [1, 9]

    def test_a_store_that_is_too_small_is_a_warning(self, images):
        with pytest.warns(TransferclfWarning, match=r"35 of 40 .* max_bytes=24000 is too small"):
            warm(images[0], tiny(cache=FeatureStore(max_bytes=24_000)))

    def test_a_store_in_memory_for_processes_is_a_warning(self, images):
        search = GridSearchCV(tiny(), {"l2": [1.0]}, n_jobs=2)
        with pytest.warns(TransferclfWarning, match="do not share a store in memory"):
            warm(images[0][:5], search)

    def test_workers_of_an_estimator_need_no_store_on_disk(self, images):
        assert warm(images[0][:5], tiny(n_jobs=2)).computed == 5

    def test_values_that_change_no_features_need_no_list(self, images):
        search = RandomizedSearchCV(tiny(), {"l2": object()})
        assert warm(images[0][:5], search).computed == 5
