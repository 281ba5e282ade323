"""TransferClassifier on images: the behaviour that users of scikit-learn expect."""

import copy
import pickle
import random

import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from image_helpers import striped_images
from PIL import Image
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from transferclf import TransferClassifier
from transferclf.exceptions import (
    ImageError,
    ImageReadError,
    InvalidParameterError,
    MissingImageError,
    TransferclfWarning,
    UnknownBackboneError,
    WeightsError,
)
from transferclf.features import shared_store
from transferclf.images import resize_image

N = 24


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.array(["across", "down", "noise"])[np.arange(N) % 3]


@pytest.fixture
def files(images, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(N)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def no_network(monkeypatch):
    """Fail if a network is built."""
    monkeypatch.setattr(
        "transferclf.features.frozen.build_backbone", lambda *_: pytest.fail("built a network")
    )


def tiny(**options):
    return TransferClassifier("tiny", **{"image_size": 32, **options})


def count_passes(monkeypatch):
    """Count the images that go through any network after this call."""
    from transferclf.engines.forward import Forward

    seen = []
    call = Forward.__call__

    def counted(self, batch):
        seen.append(len(batch))
        return call(self, batch)

    monkeypatch.setattr(Forward, "__call__", counted)
    return seen


# Learning ------------------------------------------------------------------------------------


def test_it_learns_and_has_the_attributes_of_scikit_learn(images, labels):
    classifier = tiny()
    assert classifier.fit(images, labels) is classifier
    assert classifier.score(images, labels) == 1.0
    assert classifier.classes_.tolist() == ["across", "down", "noise"]
    assert classifier.predict(images).tolist() == labels.tolist()
    probabilities = classifier.predict_proba(images)
    assert classifier.classes_[probabilities.argmax(axis=1)].tolist() == labels.tolist()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert_rows_agree(probabilities, softmax(classifier.decision_function(images), axis=1))
    assert classifier.n_iter_ == len(classifier.history_["loss"]) > 1


@pytest.mark.parametrize("values", [("a", "b"), (7, -3), (True, False), (0, 1)])
def test_two_classes_may_have_labels_of_any_type(images, values):
    y = np.array(values)[np.arange(N) % 2]
    classifier = tiny().fit(images, y)
    assert classifier.classes_.tolist() == sorted(values)
    assert classifier.predict(images).dtype == y.dtype
    scores = classifier.decision_function(images)
    assert scores.shape == (N,)
    np.testing.assert_array_equal(scores > 0, classifier.predict(images) == sorted(values)[1])
    odds = classifier.predict_proba(images)
    assert_rows_agree(scores, np.log(odds[:, 1] / odds[:, 0]))


def test_weights_count_like_repetition(images, labels):
    weights = np.where(np.arange(N) < 6, 3.0, 1.0)
    repeated = np.repeat(np.arange(N), weights.astype(int))
    weighted = tiny().fit(images, labels, sample_weight=weights)
    again = tiny().fit(images[repeated], labels[repeated])
    np.testing.assert_allclose(
        weighted.predict_proba(images), again.predict_proba(images), atol=1e-3
    )


def test_balanced_class_weights_are_those_of_scikit_learn(images, labels):
    few = np.r_[0, 1:N:3, 2:N:3]
    X, y = images[few], labels[few]
    counts = {name: int((y == name).sum()) for name in set(y.tolist())}
    by_hand = {name: len(y) / (3 * count) for name, count in counts.items()}
    balanced = tiny(class_weight="balanced").fit(X, y).predict_proba(images)
    np.testing.assert_allclose(
        balanced, tiny(class_weight=by_hand).fit(X, y).predict_proba(images), atol=1e-6
    )
    plain = tiny().fit(X, y).predict_proba(images)
    assert balanced[:, 0].mean() > plain[:, 0].mean()


def test_a_class_weight_is_a_weight_of_its_samples(images, labels):
    by_class = tiny(class_weight={"down": 5}).fit(images, labels)
    by_sample = tiny().fit(images, labels, sample_weight=np.where(labels == "down", 5, 1))
    np.testing.assert_allclose(
        by_class.predict_proba(images), by_sample.predict_proba(images), atol=1e-6
    )


def test_missing_labels_of_pandas_are_refused(images, labels):
    pd = pytest.importorskip("pandas")
    y = pd.Series(labels, dtype="string")
    assert tiny().fit(images, y).classes_.tolist() == ["across", "down", "noise"]
    y[3] = pd.NA
    with pytest.raises(ValueError, match="no label for 1 of 24 images.*index 3"):
        tiny().fit(images, y)


# One pass ------------------------------------------------------------------------------------


def test_a_grid_search_puts_every_distinct_image_through_the_network_once(
    images, labels, monkeypatch
):
    seen = count_passes(monkeypatch)
    X = np.concatenate([images, images[:5]])  # five of them come twice
    y = np.concatenate([labels, labels[:5]])
    grid = {"l2": [1e-4, 1e-2, 1.0], "class_weight": [None, "balanced"]}
    search = GridSearchCV(tiny(), grid, cv=5).fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    assert sum(seen) == N
    search.predict(images)
    assert sum(seen) == N


def test_paths_go_through_once_and_refits_need_no_network(files, labels, monkeypatch):
    seen = count_passes(monkeypatch)
    cross_val_score(tiny(), files, labels, cv=3)
    assert sum(seen) == N
    monkeypatch.setattr(
        "transferclf.features.frozen.Prefix.forward", lambda self: pytest.fail("asked for one")
    )
    tiny(l2=0.5).fit(files, labels)


def test_features_are_not_kept_without_a_cache(images, labels):
    tiny(cache=None).fit(images, labels)
    assert shared_store().info().entries == 0


# Equal images, equal results -----------------------------------------------------------------


def test_the_kind_of_input_does_not_matter(images, labels, files):
    classifier = tiny().fit(images, labels)
    expected = classifier.predict_proba(images)
    kinds = {
        "files": files,
        "strings": [str(file) for file in files],
        "PIL": [Image.fromarray(image) for image in images],
        "floats": images / 255,
        "float32": (images / 255).astype(np.float32),
        "list": list(images),
    }
    for kind, X in kinds.items():
        shared_store().clear()
        assert_rows_agree(classifier.predict_proba(X), expected, kind)


def test_rows_of_pixels_are_read_with_image_shape(images, labels):
    rows = images.reshape(N, -1)
    classifier = tiny(image_shape=(32, 32, 3)).fit(rows, labels)
    assert classifier.n_features_in_ == 32 * 32 * 3
    np.testing.assert_array_equal(
        classifier.predict_proba(rows), tiny().fit(images, labels).predict_proba(images)
    )
    with pytest.raises(ImageError, match="3071 features"):
        classifier.predict(rows[:, 1:])
    classifier.set_params(image_shape=None).fit(images, labels)
    assert not hasattr(classifier, "n_features_in_")


def test_an_image_without_a_store_agrees_in_any_company(images, labels):
    classifier = tiny(cache=None).fit(images, labels)
    together = classifier.predict_proba(images)
    alone = np.concatenate([classifier.predict_proba(images[i : i + 1]) for i in range(5)])
    assert_rows_agree(alone, together[:5])
    order = np.random.default_rng(0).permutation(N)
    assert_rows_agree(classifier.predict_proba(images[order]), together[order])


def test_the_pixel_range_is_decided_at_fit(images, labels):
    floats = (images / 255).astype(np.float32) * 0.999
    classifier = tiny().fit(floats, labels)
    assert classifier.pixel_range_ == (0, 1)
    with pytest.raises(ImageError, match="from 0 to 1"):
        classifier.predict(floats * 100)
    assert tiny().fit(images, labels).pixel_range_ == (0, 255)


def test_floats_on_another_scale_than_in_fit_raise_a_warning(images, labels):
    floats = images.astype(np.float32) + 0.25
    classifier = tiny().fit(floats, labels)
    assert classifier.pixel_range_ == (0, 255)
    classifier.predict(floats // 8)
    with pytest.warns(TransferclfWarning, match="went beyond 1"):
        classifier.predict(floats / 256)


def test_dark_floats_are_not_rescaled_and_raise_a_warning(images, labels):
    with pytest.warns(TransferclfWarning, match=r"pixel_range=\(0, 15\)"):
        tiny().fit(np.round(images / 255 * 16), labels)


# The Keras model -----------------------------------------------------------------------------


def test_model_is_one_flat_keras_model_from_pixels_to_probabilities(images, labels):
    import keras

    classifier = tiny().fit(images, labels)
    model = classifier.model_
    assert model is classifier.model_
    np.testing.assert_allclose(
        model.predict(images.astype(np.float32), verbose=0),
        classifier.predict_proba(images),
        atol=1e-5,
    )
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    trainable = [layer.name for layer in model.layers if layer.trainable and layer.weights]
    assert trainable == ["predictions"]


def test_training_the_keras_model_changes_no_other_estimator(images, labels):
    classifier, other = tiny().fit(images, labels), tiny(cache=None).fit(images, labels)
    before = other.predict_proba(images)
    model = classifier.model_
    model.set_weights([weights * 2 for weights in model.get_weights()])
    np.testing.assert_array_equal(other.predict_proba(images), before)
    np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-6)


@pytest.mark.slow
def test_refitting_gives_a_new_model(images, labels):
    classifier = tiny().fit(images, labels)
    first = classifier.model_
    assert classifier.fit(images, np.roll(labels, 1)).model_ is not first


def test_a_keras_model_is_a_backbone(images, labels):
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 5, activation="relu", strides=4)(x)
    own = keras.Model(inputs, x, name="own")
    weights = copy.deepcopy(own.get_weights())
    classifier = clone(TransferClassifier(own)).fit(images, labels)
    assert classifier.score(images, labels) > 0.9
    np.testing.assert_allclose(
        outputs_of(classifier.model_, images),
        classifier.predict_proba(images),
        atol=1e-5,
    )
    for before, after in zip(weights, own.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# The rules of estimators ---------------------------------------------------------------------


def test_predicting_does_not_change_the_estimator(images, labels):
    classifier = tiny().fit(images, labels)
    before = {name: id(value) for name, value in vars(classifier).items()}
    classifier.predict(images)
    classifier.decision_function(images)
    classifier.score(images, labels)
    assert {name: id(value) for name, value in vars(classifier).items()} == before


def test_parameters_set_after_fitting_apply_to_the_next_fit(images, labels):
    wide = np.concatenate([images, np.roll(images, 1, axis=0)], axis=2)
    classifier = tiny().fit(wide, labels)
    before = classifier.predict_proba(wide)
    classifier.set_params(resize="stretch", image_size=64, pooling="max")
    np.testing.assert_array_equal(classifier.predict_proba(wide), before)
    assert not np.allclose(classifier.fit(wide, labels).predict_proba(wide), before)


def test_fit_does_not_change_parameters_and_inputs(images, labels):
    images.flags.writeable = labels.flags.writeable = False
    classifier = tiny(class_weight={"down": 2.0})
    before = copy.deepcopy(classifier.get_params())
    classifier.fit(images, labels)
    classifier.predict(images)
    assert classifier.get_params() == before


def test_fitting_again_gives_equal_predictions(images, labels):
    classifier = tiny().fit(images, labels)
    first = classifier.predict_proba(images)
    np.testing.assert_array_equal(classifier.fit(images, labels).predict_proba(images), first)


def test_clones_have_the_parameters_and_are_not_fitted(images, labels):
    classifier = tiny(l2=0.5).fit(images, labels)
    fresh = clone(classifier)
    assert fresh.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(images)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copies_give_equal_predictions(images, labels, copied):
    classifier = tiny().fit(images, labels)
    _ = classifier.model_  # is not pickled along
    twin = copied(classifier)
    if isinstance(twin, bytes):
        assert len(twin) < 200_000
        twin = pickle.loads(twin)
    np.testing.assert_array_equal(twin.predict_proba(images), classifier.predict_proba(images))
    np.testing.assert_allclose(
        outputs_of(twin.model_, images),
        classifier.predict_proba(images),
        atol=1e-5,
    )


def test_it_works_in_pipelines(images, labels):
    darken = FunctionTransformer(lambda X: X // 2)
    pipeline = make_pipeline(darken, tiny()).fit(images, labels)
    assert pipeline.score(images, labels) == 1.0


def test_random_weights_follow_random_state_and_change_no_global_state(images, labels):
    import keras

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    keras.utils.set_random_seed(1)
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    results = [
        tiny(weights=None, random_state=seed).fit(images, labels).predict_proba(images)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


@pytest.mark.slow
def test_random_state_may_be_a_random_state_object_or_none(images, labels):
    first, again = (
        tiny(weights=None, random_state=np.random.RandomState(4)).fit(images, labels)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(images), again.predict_proba(images))
    unseeded = [tiny(weights=None).fit(images, labels).decision_function(images) for _ in "ab"]
    assert not np.allclose(*unseeded)


def test_clones_with_the_same_seed_share_random_features(images, labels, monkeypatch):
    seen = count_passes(monkeypatch)
    cross_val_score(tiny(weights=None, random_state=3), images, labels, cv=3)
    assert sum(seen) == N


def test_verbose_prints_the_steps(images, labels, capsys):
    tiny().fit(images, labels)
    assert capsys.readouterr().out == ""
    tiny(verbose=1, cache=None).fit(images, labels)
    shown = capsys.readouterr().out
    assert f"{N} images to compute" in shown
    assert "linear head" in shown


def test_tags_describe_the_classifier():
    tags = TransferClassifier().__sklearn_tags__()
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.positive_only
    assert tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array


# Errors before any network is built ----------------------------------------------------------


def wrong_floats(value):
    X = np.full((4, 8, 8, 3), 0.5)
    X[2, 3, 3, 1] = value
    return X


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.zeros((0, 8, 8, 3)), "X is empty"),
        ([], "X is empty"),
        (wrong_floats(np.nan), r"image 2: expected finite.*NaN"),
        (wrong_floats(np.inf), r"image 2: expected finite"),
        (wrong_floats(-1.0), r"image 2: .*at least 0, got -1.*preprocess_input"),
        (np.zeros((4, 64)), r"2-D .*image_shape=\(28, 28\)"),
        (np.zeros((4, 8, 8, 5)), "5 channels"),
        (np.zeros((4, 3, 8, 8)), "channels come last"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_values_that_are_no_images_raise_an_error(X, match):
    with pytest.raises(ImageError, match=match):
        tiny().fit(X, ["a", "b"] * (len(X) // 2))


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, "requires y to be passed, but the target y is None"),
        (["a"] * N, "at least two classes. Got one class: 'a'"),
        (["a", "b"], rf"{N} images and 2 labels"),
        (["a", None] * (N // 2), "no label for 12 of 24 images.*index 1"),
        (np.r_[np.nan, np.arange(N - 1) % 2], "no label for 1 of 24 images"),
        (np.linspace(0, 1, N), "Unknown label type"),
        (np.array(["a", 1] * (N // 2), dtype=object), "labels of one type"),
        (np.array(["NaT", "2020-01-01"] * (N // 2), dtype="M8[D]"), "no label for 12 of 24"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_values_that_are_no_targets_raise_an_error(images, y, match):
    with pytest.raises(ValueError, match=match):
        tiny().fit(images, y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"resize": "squash"},
            "resize must be one of 'auto', 'crop', 'stretch', 'pad'. Got 'squash'",
        ),
        (
            {"pooling": "mean"},
            "pooling must be one of 'auto', 'avg', 'max', 'flatten', 'cls', 'cls\\+avg'",
        ),
        ({"preprocessing": "caffee"}, "preprocessing must be one of"),
        ({"cache": 3}, 'cache to be "memory", a folder'),
        ({"cache": ""}, 'cache to be "memory", a folder'),
        ({"l2": -1}, "l2 must be .auto. or a finite number of at least 0. Got -1"),
        ({"l2": "much"}, "l2 must be"),
        ({"l2": np.nan}, "l2 must be"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1"),
        ({"max_iter": 2.5}, "max_iter must be"),
        ({"image_size": 8}, "at least 32 for backbone 'tiny'. Got 8"),
        ({"image_size": (96, 96, 3)}, "image_size must be"),
        ({"image_size": "big"}, "image_size must be"),
        ({"image_shape": 28}, "image_shape must be"),
        ({"pixel_range": (5, 1)}, "pixel_range must be"),
        ({"class_weight": "fair"}, "class_weight must be one of"),
        ({"class_weight": [1, 2]}, "class_weight must be"),
        ({"class_weight": {"cat": 2}}, r"class_weight names classes that y has not: \['cat'\]"),
        ({"class_weight": {"down": -2}}, "class_weight must be"),
        ({"class_weight": dict.fromkeys(["across", "down", "noise"], 0)}, "class_weight must be"),
        ({"random_state": "x", "weights": None}, "random_state must be"),
        ({"random_state": -1, "weights": None}, "random_state must be"),
        ({"backbone": 5}, "backbone must be a name"),
        ({"random_state": "x"}, "random_state must be"),
        ({"verbose": -1}, "verbose must be"),
        ({"verbose": "loud"}, "verbose must be"),
        ({"class_weight": {"down": "x"}}, "class_weight must hold numbers"),
        ({"resize": np.zeros(2)}, "resize must be one of"),
        ({"weights": 5}, "weights must be"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_invalid_parameters_are_refused(images, labels, options, match):
    with pytest.raises(InvalidParameterError, match=match):
        tiny().set_params(**options).fit(images, labels)


@pytest.mark.usefixtures("no_network")
def test_error_of_an_unknown_backbone_names_the_nearest(images, labels):
    with pytest.raises(UnknownBackboneError, match="did you mean 'resnet50'"):
        TransferClassifier("resnet5").fit(images, labels)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (np.ones(3), r"shape \(24,\)"),
        (np.full(N, -1.0), "nowhere negative"),
        (np.full(N, np.nan), "finite"),
        (np.zeros(N), "not zero everywhere"),
        ("heavy", "sample_weight must hold numbers"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_invalid_sample_weights_are_refused(images, labels, weights, match):
    with pytest.raises(ValueError, match=match):
        tiny().fit(images, labels, sample_weight=weights)


@pytest.mark.usefixtures("no_network")
def test_the_error_names_all_missing_files(files, labels):
    files[3].unlink()
    files[7].unlink()
    with pytest.raises(MissingImageError, match=r"2 of 24(.|\n)*2 images: 3 .*3\.png.*, 7 "):
        tiny().fit(files, labels)


@pytest.mark.usefixtures("no_network")
def test_a_truncated_and_an_invalid_image_are_reported_together(files, labels, images):
    Image.fromarray(images[5]).save(files[5].with_suffix(".jpg"), quality=95)
    whole = files[5].with_suffix(".jpg").read_bytes()
    files[5] = files[5].with_suffix(".jpg")
    files[5].write_bytes(whole[: len(whole) // 2])
    files[9].write_text("this is no picture")
    with pytest.raises(ImageReadError, match=r"2 of 24(.|\n)*image 5.*5\.jpg(.|\n)*image 9") as it:
        tiny().fit(files, labels)
    assert "no known image format" in str(it.value)
    assert "truncated" in str(it.value)


def test_a_decompression_bomb_is_refused(files, labels, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageReadError, match="decompression bomb"):
        tiny().fit(files, labels)


def test_small_images_are_enlarged(labels, rng):
    small = rng.integers(0, 256, (N, 3, 5), dtype=np.uint8)
    classifier = tiny(l2=1.0).fit(small, labels)
    pixels = np.stack([resize_image(image, (32, 32)) for image in np.stack([small] * 3, axis=-1)])
    # Features of noise hardly vary, so that standardising them magnifies rounding errors.
    np.testing.assert_allclose(
        outputs_of(classifier.model_, pixels),
        classifier.predict_proba(small),
        atol=1e-3,
    )


@pytest.mark.usefixtures("no_network")
def test_missing_weights_are_an_error(images, labels, tmp_path):
    with pytest.raises(WeightsError, match=r"none\.h5"):
        tiny(weights=tmp_path / "none.h5").fit(images, labels)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predicting_before_fitting_is_an_error(images, method):
    with pytest.raises(NotFittedError):
        getattr(tiny(), method)(images)
    assert not hasattr(tiny(), "model_")


def test_stored_features_of_files_serve_another_classifier(images, labels, files, monkeypatch):
    tiny().fit(files, labels)
    seen = count_passes(monkeypatch)
    tiny().fit(images, labels).predict(files)
    assert sum(seen) == N  # the arrays; the features of the files were stored
