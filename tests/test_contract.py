"""The rules of scikit-learn's estimators, for images as arrays, paths and PIL images."""

import pickle

import joblib
import numpy as np
import pytest
from exactness import assert_rows_agree
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import in_kind, striped_images, taken
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError, TransferclfWarning
from transferclf.features import shared_store

N = 36
NAMES = np.array(["across", "down", "noise"])
KINDS = ["arrays", "paths", "PIL"]
OUTPUTS = ("predict", "predict_proba", "decision_function", "transform")


def tiny(**options):
    return TransferClassifier(**{"image_size": 32, "random_state": 0, **options})


ESTIMATORS = {
    "linear": tiny(l2=0.01),
    "hidden layer": tiny(hidden_units=(16,), epochs=3),
    "fine-tuned": tiny(l2=0.01, trainable_layers="top", fine_tune_epochs=2, **ALL_IMAGES),
    "from scratch": tiny(backbone=ConvNet(filters=(8,), dense_units=(16,)), image_size=8, epochs=3),
    "extractor": CNNFeatureExtractor(image_size=32),
}

# Estimators that give an image the same bits in any batch, because its features are stored.
EXACT = ("linear", "extractor")


@pytest.fixture(scope="module")
def images():
    images = striped_images(N, np.random.default_rng(0))
    images.flags.writeable = False
    return images


@pytest.fixture(scope="module")
def labels():
    return NAMES[np.arange(N) % 3]


@pytest.fixture(scope="module")
def kinds(images, tmp_path_factory):
    """The same images in each kind."""
    folder = tmp_path_factory.mktemp("pictures")
    return {kind: in_kind(images, kind, folder) for kind in KINDS}


@pytest.fixture(scope="module")
def fitted(kinds, labels):
    """Fit an estimator to a kind of images once for all tests, which must not change it."""
    known = {}

    def get(name, kind):
        if (name, kind) not in known:
            known[name, kind] = clone(ESTIMATORS[name]).fit(kinds[kind], labels)
        return known[name, kind]

    return get


def outputs(estimator, X):
    """Return all outputs of an estimator for images, by the name of the method."""
    names = [name for name in OUTPUTS if hasattr(estimator, name)]
    return {name: getattr(estimator, name)(X) for name in names}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


on_all = pytest.mark.parametrize("name", ESTIMATORS)
of_all_kinds = pytest.mark.parametrize("kind", KINDS)


# Any kind of X -------------------------------------------------------------------------------


@on_all
@of_all_kinds
def test_fitting_twice_gives_the_same(name, kind, kinds, labels, fitted):
    X = kinds[kind]
    once = outputs(fitted(name, kind), X)
    estimator = clone(ESTIMATORS[name])
    assert estimator.fit(X, labels) is estimator
    assert_same(outputs(estimator, X), once)
    assert_same(outputs(estimator.fit(X, labels), X), once)


@on_all
def test_the_kind_does_not_matter(name, kinds, fitted):
    results = [outputs(fitted(name, kind), kinds[kind]) for kind in KINDS]
    for other in results[1:]:
        for method, values in results[0].items():
            if method == "predict":
                np.testing.assert_array_equal(other[method], values)
            else:
                np.testing.assert_allclose(other[method], values, rtol=1e-4, atol=1e-5)


@on_all
@of_all_kinds
def test_predicting_does_not_change_the_estimator(name, kind, kinds, labels, fitted):
    estimator = fitted(name, kind)
    before, hashed = dict(vars(estimator)), joblib.hash(estimator)
    outputs(estimator, kinds[kind])
    if hasattr(estimator, "score"):
        estimator.score(kinds[kind], labels)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[key] is before[key] for key in before)
    assert joblib.hash(estimator) == hashed


@on_all
@of_all_kinds
def test_rows_do_not_depend_on_order_and_company(name, kind, kinds, fitted):
    """Check for equal bits where features are stored and the head is linear, else for rounding."""
    estimator, X = fitted(name, kind), kinds[kind]
    assert_same_rows = np.testing.assert_array_equal if name in EXACT else assert_rows_agree
    together = outputs(estimator, X)
    order = np.random.default_rng(1).permutation(N)
    alone = [outputs(estimator, taken(X, [i])) for i in range(5)]
    few = outputs(estimator, taken(X, [3, 1, 4]))
    reordered = outputs(estimator, taken(X, order))
    for method, values in together.items():
        if method == "predict" and name not in EXACT:
            continue  # two classes may be equally probable
        assert_same_rows(reordered[method], values[order])
        assert_same_rows(np.concatenate([one[method] for one in alone]), values[:5])
        assert_same_rows(few[method], values[[3, 1, 4]])


@on_all
def test_images_from_scratch_alone_agree_to_rounding(name, images, fitted):
    estimator = fitted(name, "arrays")
    together = outputs(estimator, images)
    shared_store().clear()
    for method, values in outputs(estimator, images[:3]).items():
        if method != "predict":
            np.testing.assert_allclose(values, together[method][:3], rtol=1e-4, atol=1e-5)


@of_all_kinds
@pytest.mark.parametrize(
    "values", [("a", "b"), (7, -3), (True, False), ("left", "right", "up"), (3, 1, 2)], ids=str
)
def test_predicted_labels_are_the_given_ones(kind, values, kinds):
    y = np.array(values)[np.arange(N) % len(values)]
    classifier = tiny(l2=0.01).fit(kinds[kind], y)
    assert classifier.classes_.tolist() == sorted(values)
    assert classifier.classes_.dtype == classifier.predict(kinds[kind]).dtype == y.dtype
    is_binary = len(values) == 2
    assert classifier.decision_function(kinds[kind]).shape == ((N,) if is_binary else (N, 3))
    assert classifier.predict_proba(kinds[kind]).shape == (N, len(values))
    from_list = clone(classifier).fit(kinds[kind], y.tolist())
    assert_same(outputs(from_list, kinds[kind]), outputs(classifier, kinds[kind]))


@of_all_kinds
def test_weights_of_a_linear_head_are_repetitions(kind, kinds, labels):
    weights = np.random.default_rng(2).integers(0, 4, N)
    weights[:3] = 1  # of each class
    again, X = np.repeat(np.arange(N), weights), kinds[kind]
    weighted = tiny().fit(X, labels, sample_weight=weights)
    repeated = tiny().fit(taken(X, again), labels[again])
    assert weighted.l2_ == repeated.l2_
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_units": (8,), "epochs": 5},
        {"l2": 1.0, "trainable_layers": "top", "fine_tune_epochs": 3, **ALL_IMAGES},
        {"backbone": ConvNet(filters=(8,), dense_units=(16,)), "image_size": 8, "epochs": 5},
    ],
    ids=["hidden layer", "fine-tuned", "from scratch"],
)
def test_weights_in_one_batch_are_repetitions_to_rounding(options, images, labels):
    # One batch, because else an image of weight 2 and two images are in different batches.
    classifier = tiny(**options, batch_size=4 * N)
    weights = np.random.default_rng(2).integers(1, 4, N)
    again = np.repeat(np.arange(N), weights)
    weighted = clone(classifier).fit(images, labels, sample_weight=weights).predict_proba(images)
    repeated = clone(classifier).fit(images[again], labels[again]).predict_proba(images)
    np.testing.assert_allclose(weighted, repeated, atol=1e-4)
    plain = clone(classifier).fit(images, labels).predict_proba(images)
    assert abs(plain - repeated).max() > 2 * abs(weighted - repeated).max()


@on_all
@of_all_kinds
def test_pickles_before_and_after_fitting(name, kind, kinds, labels, fitted):
    X, estimator = kinds[kind], fitted(name, kind)
    expected = outputs(estimator, X)
    assert_same(outputs(pickle.loads(pickle.dumps(estimator)), X), expected)
    unfitted = pickle.loads(pickle.dumps(ESTIMATORS[name]))
    assert_same(outputs(unfitted.fit(X, labels), X), expected)


@on_all
def test_read_only_memory_gives_equal_results(name, images, labels, tmp_path, fitted):
    assert not images.flags.writeable
    path = tmp_path / "images.joblib"
    joblib.dump((images, labels), path)
    X, y = joblib.load(path, mmap_mode="r")
    assert isinstance(X, np.memmap)
    estimator = clone(ESTIMATORS[name]).fit(X, y)
    assert_same(outputs(estimator, X), outputs(fitted(name, "arrays"), images))


@on_all
@of_all_kinds
def test_clones_are_not_fitted(name, kind, kinds, fitted):
    estimator = fitted(name, kind)
    fresh = clone(estimator)
    assert joblib.hash(fresh.get_params()) == joblib.hash(estimator.get_params())
    method = "predict" if hasattr(fresh, "predict") else "transform"
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(fresh, method)(kinds[kind])


@on_all
@of_all_kinds
def test_images_have_no_columns(name, kind, fitted):
    estimator = fitted(name, kind)
    assert not hasattr(estimator, "n_features_in_")
    assert not hasattr(estimator, "feature_names_in_")


# Tables --------------------------------------------------------------------------------------


@pytest.fixture(params=["pandas", "polars"])
def frames(request):
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("name", ["linear", "extractor"])
def test_series_and_columns_of_paths_are_accepted(name, frames, kinds, labels, fitted):
    paths = kinds["paths"]
    expected = outputs(fitted(name, "paths"), paths)
    table = frames.DataFrame({"path": paths})
    for X in (table, table["path"], table[::-1][::-1]):
        y = frames.Series(labels.tolist())
        estimator = clone(ESTIMATORS[name]).fit(X, y)
        assert_same(outputs(estimator, X), expected)
        assert_same(outputs(estimator, paths), expected)
        assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize("name", ["linear", "hidden layer", "extractor"])
def test_tables_of_rows_give_equal_results(name, frames, images, labels, fitted):
    rows = images.reshape(N, -1)
    columns = [f"pixel_{number}" for number in range(rows.shape[1])]
    table = frames.DataFrame(dict(zip(columns, rows.T, strict=True)))
    estimator = clone(ESTIMATORS[name]).set_params(image_shape=(32, 32, 3)).fit(table, labels)
    assert_same(outputs(estimator, table), outputs(fitted(name, "arrays"), images))
    assert estimator.n_features_in_ == len(columns)
    assert estimator.feature_names_in_.tolist() == columns
    method = "predict" if hasattr(estimator, "predict") else "transform"
    with pytest.raises(ValueError, match="names should match(.|\n)*same order"):
        getattr(estimator, method)(table[columns[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        getattr(estimator, method)(rows)
    # Images have no column names to check.
    assert_same(outputs(estimator, images), outputs(fitted(name, "arrays"), images))


def test_fitting_to_images_removes_the_column_names(images, labels):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(images.reshape(N, -1)).rename(columns=str)
    classifier = tiny(l2=0.01, image_shape=(32, 32, 3)).fit(table, labels)
    assert hasattr(classifier, "feature_names_in_")
    classifier.fit(table.to_numpy(), labels)
    assert not hasattr(classifier, "feature_names_in_")
    assert classifier.n_features_in_ == 3072
    classifier.set_params(image_shape=None).fit(images, labels)
    assert not hasattr(classifier, "n_features_in_")


# Rows without a given shape ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "extractor"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (32, 32)])
def test_inferred_shapes_equal_given_ones(name, shape, images, labels):
    rows = (images if len(shape) == 3 else images[..., 0]).reshape(N, -1)
    inferred, given = (
        clone(ESTIMATORS[name]).set_params(image_shape=how).fit(rows, labels)
        for how in ("infer", shape)
    )
    assert_same(outputs(inferred, rows), outputs(given, rows))
    assert inferred.n_features_in_ == rows.shape[1]
    assert inferred.get_params()["image_shape"] == "infer"


def test_strips_are_stretched_and_not_cropped(labels):
    strips = np.zeros((N, 30), np.uint8)
    strips[:, 0], strips[:, -1] = (np.arange(N) % 3 == 1) * 250, (np.arange(N) % 3 == 2) * 250
    classifier = tiny(l2=0.01, image_shape="infer").fit(strips, labels)
    assert classifier.score(strips, labels) == 1
    assert classifier.resize_ == "stretch"
    assert classifier.resize == "auto"
    with pytest.warns(TransferclfWarning, match="without effect on this fit: resize='crop'"):
        classifier.set_params(resize="crop").fit(strips, labels)
    assert tiny(l2=0.01, image_shape="infer").fit(strips[:, :25], labels).resize_ == "crop"


def test_rows_of_another_length_than_in_fit_are_refused(images, labels):
    gray = images[..., 0].reshape(N, -1)
    classifier = tiny(l2=0.01, image_shape="infer").fit(gray, labels)
    message = "X has 900 features, but TransferClassifier is expecting 1024 features as input"
    for ask in (classifier.predict, classifier.predict_proba, classifier.decision_function):
        with pytest.raises(ImageError, match=message):
            ask(gray[:, :900])
    with pytest.raises(ImageError, match=message):
        classifier.fit(gray, labels, validation_data=(gray[:, :900], labels))
    extractor = CNNFeatureExtractor(image_size=32, image_shape="infer").fit(gray)
    with pytest.raises(ImageError, match="X has 900 features, but CNNFeatureExtractor"):
        extractor.transform(gray[:, :900])


def test_values_that_are_no_images_are_refused_after_fitting_to_rows(images, labels):
    gray = images[..., 0].reshape(N, -1)
    classifier = tiny(l2=0.01, image_shape="infer").fit(gray, labels)
    for wrong, message in [
        (csr_matrix(gray), "Got a sparse matrix"),
        (gray[0], "Reshape your data"),
        (gray[:0], "X is empty"),
        (gray[:, :0], r"0 feature\(s\)"),
        (gray * 1j, "Complex data not supported"),
        ("a path", "Got one str"),
        ({"a": 1}, "Got dict"),
        ([[1, 2], [3]], "unequal lengths"),
        (None, "Got NoneType"),
    ]:
        with pytest.raises(ImageError, match=message):
            classifier.predict(wrong)


@pytest.mark.parametrize("name", ["linear", "extractor"])
def test_rows_are_refused_unless_asked_for(name, images, labels):
    with pytest.raises(ImageError, match="only with image_shape=.*or with image_shape='infer'"):
        clone(ESTIMATORS[name]).fit(images.reshape(N, -1), labels)
    wrong = clone(ESTIMATORS[name]).set_params(image_shape="guess")
    with pytest.raises(InvalidParameterError, match="'infer' or None. Got 'guess'"):
        wrong.fit(images.reshape(N, -1), labels)
