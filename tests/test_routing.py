"""Tests of metadata routing, feature names, output tables, tags and diagrams of scikit-learn."""

import ast
import re
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
import sklearn
from image_helpers import in_kind, striped_images
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import transferclf
from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier
from transferclf.exceptions import UnavailableMethodError

N = 24
CLASS = np.arange(N) % 3


def tiny(**options):
    return TransferClassifier(**{"image_size": 32, "l2": 0.01, "random_state": 0, **options})


def features(**options):
    return CNNFeatureExtractor(image_size=32, **options)


@pytest.fixture(scope="module")
def images():
    return striped_images(N, np.random.default_rng(0))


@pytest.fixture(name="X", params=["arrays", "paths"])
def images_or_paths(request, images, tmp_path):
    return in_kind(images, request.param, tmp_path)


@pytest.fixture
def _routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def wrong():
    """Labels, some of them wrong, and weights of zero for the wrong ones."""
    labels, weights = CLASS.copy(), np.ones(N)
    labels[:6], weights[:6] = (labels[:6] + 1) % 3, 0
    return labels, weights


# Metadata --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_routing")
class TestRouting:
    def test_weights_reach_the_classifier_in_a_pipeline(self, X, wrong):
        labels, weights = wrong
        weighted = tiny().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), weighted)
        pipeline.fit(X, labels, sample_weight=weights)
        expected = tiny().fit(X, labels, sample_weight=weights).predict_proba(X)
        np.testing.assert_array_equal(pipeline.predict_proba(X), expected)
        assert not np.allclose(tiny().fit(X, labels).predict_proba(X), expected)

    def test_weights_are_split_with_the_images(self, X, wrong):
        labels, weights = wrong
        classifier = (
            tiny().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        folds = StratifiedKFold(2)
        result = cross_validate(classifier, X, labels, cv=folds, params={"sample_weight": weights})
        assert result["test_score"].tolist() == [1, 1]  # wrong labels have no weight
        search = GridSearchCV(classifier, {"l2": [0.01, 0.1]}, cv=folds)
        search.fit(X, labels, sample_weight=weights)
        assert search.best_score_ == 1
        expected = tiny(**search.best_params_).fit(X, labels, sample_weight=weights)
        np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))

    def test_weights_reach_each_inner_classifier(self, X, wrong):
        labels, weights = wrong
        classifier = OneVsRestClassifier(tiny().set_fit_request(sample_weight=True))
        classifier.fit(X, labels, sample_weight=weights)
        for label, fitted in enumerate(classifier.estimators_):
            expected = tiny().fit(X, labels == label, sample_weight=weights)
            np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))

    def test_validation_data_is_handed_to_every_fit(self, X, images):
        classifier = tiny(hidden_units=(4,), epochs=2).set_fit_request(validation_data=True)
        search = GridSearchCV(classifier, {"learning_rate": [1e-3, 1e-2]}, cv=2)
        search.fit(X, CLASS, validation_data=(images[:6], CLASS[:6]))
        assert len(search.best_estimator_.history_["val_loss"]) == 2
        result = cross_validate(
            classifier,
            X,
            CLASS,
            cv=2,
            params={"validation_data": (images[:6], CLASS[:6])},
            return_estimator=True,
        )
        for fitted in result["estimator"]:
            assert len(fitted.history_["val_loss"]) == 2

    def test_classes_reach_partial_fit(self, images):
        request = tiny().set_partial_fit_request(classes=True, sample_weight=False)
        routing = request.get_metadata_routing()
        assert routing.partial_fit.requests == {"classes": True, "sample_weight": False}
        assert routing.fit.requests == {"sample_weight": None, "validation_data": None}

    def test_unrequested_metadata_raise_an_error(self, images):
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(tiny(), images, CLASS, cv=2, params={"sample_weight": np.ones(N)})

    def test_requests_survive_cloning(self):
        classifier = clone(tiny().set_fit_request(sample_weight=True))
        assert classifier.get_metadata_routing().fit.requests["sample_weight"] is True


def test_prefixes_pass_weights_without_routing(X, wrong):
    labels, weights = wrong
    pipeline = make_pipeline(FunctionTransformer(), tiny())
    pipeline.fit(X, labels, transferclassifier__sample_weight=weights)
    expected = tiny().fit(X, labels, sample_weight=weights).predict_proba(X)
    np.testing.assert_array_equal(pipeline.predict_proba(X), expected)
    search = GridSearchCV(tiny(), {"l2": [0.01]}, cv=2).fit(X, labels, sample_weight=weights)
    np.testing.assert_array_equal(search.predict_proba(X), expected)


# Methods that depend on parameters ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trainable_layers": 1}, "frozen backbone: leave trainable_layers=0"),
        ({"trainable_layers": "all"}, "frozen backbone"),
        ({"backbone": ConvNet()}, "frozen backbone"),
        ({"optimizer": "lbfgs"}, "all images at once"),
        ({"class_weight": "balanced"}, "needs all labels at once"),
    ],
)
def test_partial_fit_exists_only_for_suitable_parameters(options, reason):
    assert hasattr(tiny(), "partial_fit")
    classifier = tiny(**options)
    assert not hasattr(classifier, "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as raised:
        _ = classifier.partial_fit
    assert isinstance(raised.value.__cause__, UnavailableMethodError)
    assert reason in str(raised.value.__cause__)
    assert not hasattr(OneVsRestClassifier(classifier), "partial_fit")
    assert tiny().partial_fit.__doc__ == TransferClassifier.partial_fit.__doc__


# Names and tables --------------------------------------------------------------------------------


def test_features_are_named_by_backbone_pooling_and_number(images):
    mobile = features(backbone="mobilenet_v2", weights=None, random_state=0)
    names = mobile.fit(images[:2]).get_feature_names_out()
    assert names[0] == "mobilenet_v2_avg_0"
    assert names[-1] == "mobilenet_v2_avg_1279"
    assert names.dtype == object


def test_features_of_layers_are_named_by_layer(images):
    both = features(layer=["stem_relu", "top_relu"], pooling="max").fit(images)
    names = both.get_feature_names_out()
    stem = [name for name in names if "stem" in name]
    assert stem == [f"tiny_stem_relu_max_{number}" for number in range(len(stem))]
    assert names[len(stem)] == "tiny_top_relu_max_0"
    one = features(layer="stem_relu", pooling="max").fit(images)
    assert one.get_feature_names_out().tolist() == stem
    # Names of input features do not change the names.
    assert both.get_feature_names_out(["ignored"]).tolist() == names.tolist()


def test_features_of_a_user_defined_network_have_its_name(images):
    import keras

    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 8, strides=8)(keras.layers.Rescaling(1 / 255)(inputs))
    own = keras.Model(inputs, maps, name="own_net")
    extractor = CNNFeatureExtractor(own).fit(images)
    assert extractor.get_feature_names_out().tolist() == [f"own_net_avg_{i}" for i in range(4)]


def test_feature_names_need_a_fit():
    with pytest.raises(NotFittedError):
        features().get_feature_names_out()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_tables(library, X):
    frames = pytest.importorskip(library)
    expected = features().fit_transform(X)
    extractor = features().set_output(transform=library)
    for table in (extractor.fit_transform(X), extractor.transform(X)):
        assert isinstance(table, frames.DataFrame)
        assert list(table.columns) == extractor.get_feature_names_out().tolist()
        np.testing.assert_array_equal(table.to_numpy(), expected)
        assert table.to_numpy().dtype == np.float32
    pipeline = make_pipeline(extractor, LogisticRegression()).fit(X, CLASS)
    assert pipeline[-1].feature_names_in_[0] == "tiny_avg_0"
    assert pipeline.score(X, CLASS) == 1


def test_pandas_tables_keep_the_index(images):
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(images.reshape(N, -1), index=range(100, 100 + N))
    extractor = features(image_shape=(32, 32, 3)).set_output(transform="pandas")
    assert extractor.fit_transform(rows).index.tolist() == rows.index.tolist()


# Tags --------------------------------------------------------------------------------------------


def test_tags_of_the_classifier():
    tags = get_tags(tiny())
    assert is_classifier(tiny())
    assert tags.estimator_type == "classifier"
    assert tags.target_tags.required
    assert tags.target_tags.single_output
    assert not tags.target_tags.multi_output
    assert tags.classifier_tags.multi_class
    assert tags.classifier_tags.multi_label
    assert not tags.classifier_tags.poor_score
    assert tags.transformer_tags is None
    assert tags.requires_fit
    assert not tags.no_validation
    assert not tags.non_deterministic


def test_tags_of_the_extractor():
    tags = get_tags(features())
    assert tags.transformer_tags.preserves_dtype == ["float32"]
    assert not tags.target_tags.required
    assert tags.classifier_tags is None


@pytest.mark.parametrize("make", [tiny, features])
def test_tags_of_the_input(make):
    tags = get_tags(make()).input_tags
    assert tags.two_d_array
    assert tags.three_d_array
    assert tags.string
    refused = ("one_d_array", "sparse", "categorical", "pairwise", "allow_nan", "dict")
    assert not any(getattr(tags, kind) for kind in refused)


@pytest.mark.parametrize(
    ("pixel_range", "is_positive"),
    [(None, True), ((0, 1), True), ((-1, 1), False), ("minmax", False), ("nonsense", True)],
)
def test_negative_pixels_need_a_pixel_range(pixel_range, is_positive, images):
    classifier = tiny(pixel_range=pixel_range)
    assert get_tags(classifier).input_tags.positive_only == is_positive
    if pixel_range == "nonsense":
        return
    signed = images / 127.5 - 1
    if is_positive:
        with pytest.raises(ValueError, match="Negative values in data|from 0 to 1"):
            classifier.fit(signed, CLASS)
    else:
        assert classifier.fit(signed, CLASS).score(signed, CLASS) == 1


# Diagrams ----------------------------------------------------------------------------------------


@pytest.fixture
def page(monkeypatch):
    """Set the address of the documentation in the metadata of the package; return it."""
    about = Message()
    about["Project-URL"] = "Source, https://example.org/source"
    about["Project-URL"] = "Documentation, https://example.org/manual/"
    monkeypatch.setattr("transferclf.estimators.base.metadata", lambda name: about)
    return "https://example.org/manual/"


@pytest.mark.parametrize(
    ("make", "anchor"),
    [
        (tiny, "transferclf.estimators.classifier.TransferClassifier"),
        (features, "transferclf.estimators.extractor.CNNFeatureExtractor"),
    ],
)
def test_the_diagram_links_to_the_documentation(make, anchor, page):
    assert f'href="{page}#{anchor}"' in make()._repr_html_()
    within = make_pipeline(ColumnTransformer([("image", make(), "path")]))
    assert f'href="{page}#{anchor}"' in within._repr_html_()


def test_a_package_without_a_page_has_no_link(monkeypatch):
    monkeypatch.setattr("transferclf.estimators.base.metadata", lambda name: Message())
    assert 'rel="noreferrer"' not in tiny()._repr_html_()


def test_diagrams_show_whether_it_is_fitted(images):
    assert "Not fitted" in tiny()._repr_html_()
    assert "Not fitted" not in tiny().fit(images, CLASS)._repr_html_()


# Private names of scikit-learn -------------------------------------------------------------------


ROOT = Path(transferclf.__file__).parent
PRIVATE = re.compile(r"(^|\.)_(?!_)")


def names_from_sklearn(tree):
    """Full names of all imports of a module from scikit-learn, at any place in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("sklearn"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_private_name_of_scikit_learn_is_used():
    found = [
        (path.name, name)
        for path in ROOT.rglob("*.py")
        for name in names_from_sklearn(ast.parse(path.read_text()))
    ]
    assert ("classifier.py", "sklearn.base.ClassifierMixin") in found
    assert [entry for entry in found if PRIVATE.search(entry[1])] == []
    for path in ROOT.rglob("*.py"):
        assert not re.search(r"sklearn(\.\w+)*\._[a-z]", path.read_text()), path
