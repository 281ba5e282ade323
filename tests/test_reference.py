"""The reference names all that is public, and its tables of parameters tell the truth."""

import inspect
import re
import tomllib
import warnings
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from image_helpers import striped_images

import transferclf
from transferclf import (
    CNNFeatureExtractor,
    ConvNet,
    FeatureStore,
    TransferClassifier,
    TransferRegressor,
    exceptions,
    reports,
)
from transferclf.exceptions import InvalidParameterError, TransferclfWarning

pytestmark = pytest.mark.every_parameter

DOCS = Path(__file__).resolve().parents[1] / "docs"
ESTIMATORS = (CNNFeatureExtractor, TransferClassifier, TransferRegressor)
GROUPS = tomllib.loads((DOCS / "reference/parameters.toml").read_text(encoding="utf-8"))

# --- public names ------------------------------------------------------------------------------


def listed_names():
    """Return how often each name is in the lists of the reference, by its module."""
    found, module = Counter(), None
    for line in (DOCS / "reference/index.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.fullmatch(r"   (\w+)", line):
            found[module, match[1]] += 1
    return found


@pytest.mark.parametrize("package", [transferclf, reports, exceptions], ids=lambda it: it.__name__)
def test_the_reference_lists_each_public_name_once(package):
    found = {name: n for (module, name), n in listed_names().items() if module == package.__name__}
    # `exceptions` and `reports` are modules with lists of their own.
    names = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
    assert found == dict.fromkeys(names, 1)


# --- groups of parameters ----------------------------------------------------------------------


def parameters_of(*estimators):
    return {name for kind in estimators for name in inspect.signature(kind).parameters}


def test_each_parameter_is_in_one_group():
    listed = Counter(name for group in GROUPS.values() for name in group)
    assert listed == Counter(parameters_of(*ESTIMATORS))


def test_each_parameter_has_a_sentence_on_when_to_change_it():
    for group in GROUPS.values():
        for name, text in group.items():
            assert re.fullmatch(r"[A-Z\"`].{15,}\.", text), name
            for sentence in re.split(r"(?<=[.;]) ", re.sub(r":doc:`\S+`", "page", text)):
                assert len(sentence.split()) <= 30, sentence


def test_links_of_the_groups_point_to_pages():
    index = {
        f"/{path.relative_to(DOCS).parent.as_posix()}/{name}"
        for path in DOCS.glob("*/index.md")
        for name in re.findall(r"^(\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    texts = [text for group in GROUPS.values() for text in group.values()]
    links = {link for text in texts for link in re.findall(r":doc:`(\S+)`", text)}
    assert links
    # Each page is in the table of contents of its section.
    assert links <= index


# --- heads and their parameters ----------------------------------------------------------------

N = 24
IMAGES = striped_images(N, np.random.default_rng(5))
LABELS = np.arange(N) % 3


def maps(x):
    """Return the features of a head of the user's own, from maps or from a vector."""
    return keras.layers.GlobalMaxPooling2D()(x) if len(x.shape) == 4 else keras.layers.ReLU()(x)


SCRATCH = {"backbone": ConvNet((2,), dense_units=()), "image_size": 8}
# For each column of the table: an estimator, and what makes this head.
COLUMNS = {
    "L-BFGS": (TransferClassifier, {}),
    "ridge": (TransferRegressor, {}),
    "linear": (TransferClassifier, {"optimizer": "adam"}),
    "hidden": (TransferClassifier, {"hidden_units": (3,)}),
    "own": (TransferClassifier, {"head": maps}),
    "from nothing": (TransferClassifier, SCRATCH),
    "fine-tuning": (TransferClassifier, {"trainable_layers": "top"}),
}
# A value of each parameter that is not the default.
VALUES = {
    "activation": "tanh",
    "augmentation": "medium",
    "batch_norm": "before",
    "batch_size": 7,
    "cache": None,
    "callbacks": [keras.callbacks.History()],
    "class_weight": "balanced",
    "dropout": 0.1,
    "early_stopping": True,
    "engine": "tensorflow",
    "epochs": 2,
    "fine_tune_epochs": 2,
    "fine_tune_learning_rate": 1e-4,
    "global_clipnorm": 0.3,
    "head": maps,
    "hidden_units": (5,),
    "l1": 0.1,
    "l2": 0.2,
    "layer_decay": 0.5,
    "learning_rate": 0.01,
    "lr_schedule": "exponential",
    "max_iter": 900,
    "max_memory": "1GB",
    "n_jobs": 2,
    "optimizer": "sgd",
    "oversample": True,
    "patience": 3,
    "pooling": "max",
    "precision": "bfloat16",
    "random_state": 7,
    "soup": 0.3,
    "test_time_augmentation": "crops",
    "trainable_layers": 2,
    "validation_fraction": 0.3,
    "warm_start": True,
    "warmup_fraction": 0.2,
    "weight_decay": 0.3,
    "weights": None,
    "zca_epsilon": 0.3,
}


def table():
    """Return the cells of the table by parameter and column, and what the parameter needs."""
    text = (DOCS / "reference/heads.md").read_text(encoding="utf-8")
    lines = text.split("| parameter | only with |")[1].split("\n\n")[0].splitlines()
    columns = [cell.strip() for cell in lines[0].split("|") if cell.strip()]
    assert columns == [*COLUMNS]
    cells, needs = {}, {}
    for line in lines[2:]:
        name, only_with, *words = (cell.strip().strip("`") for cell in line.split("|")[1:-1])
        needs[name] = eval(f"dict({only_with})")
        for column, word in zip(columns, words, strict=True):
            cells[name, column] = word
    return cells, needs


CELLS, NEEDS = table()


def with_word(*words):
    return [pytest.param(*key, id=" ".join(key)) for key, word in CELLS.items() if word in words]


class NotTrainedError(Exception):
    """Error that ends a fit before training."""


def stop(*_, **__):
    raise NotTrainedError


@pytest.fixture
def _any_processor(monkeypatch):
    """Let estimators take bfloat16, which not every processor has."""
    monkeypatch.setattr("transferclf.estimators.parameters.check_engine", lambda *_: None)


def made(column, **parameters):
    kind, how = COLUMNS[column]
    return kind(**{"image_size": 32, "random_state": 0} | how | parameters)


def targets_of(estimator):
    return LABELS.astype(float) if isinstance(estimator, TransferRegressor) else LABELS


def said(estimator):
    """Return the warning about parameters without effect, or "". Nothing is trained."""
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("always")
        patched.setattr("transferclf.training.learning.Learner.learn", stop)
        with pytest.raises(NotTrainedError):
            estimator.fit(IMAGES, targets_of(estimator))
    texts = [str(each.message) for each in caught if each.category is TransferclfWarning]
    return "".join(text for text in texts if "without effect" in text)


def kind_of_head(estimator):
    """Return whether the head is linear, and how it is fitted."""
    record = type(estimator)._record.of(estimator)
    return record.is_linear, record.fit_without_keras


def test_the_table_has_all_parameters():
    text = (DOCS / "reference/heads.md").read_text(encoding="utf-8")
    everywhere = text.split("With every head these have an effect:")[1].split("two-dimensional")[0]
    others = set(re.findall(r"`(\w+)`", everywhere)) | {"loss"}
    assert others.isdisjoint(NEEDS)
    assert others | set(NEEDS) == parameters_of(TransferClassifier, TransferRegressor)
    assert set(VALUES) == set(NEEDS)
    assert set(CELLS.values()) == {"yes", "head", "no", "(no)", "error", "—"}


@pytest.mark.parametrize(("name", "column"), with_word("yes", "(no)"))
@pytest.mark.usefixtures("_any_processor")
def test_a_parameter_with_an_effect_raises_no_warning(name, column):
    assert said(made(column, **NEEDS[name] | {name: VALUES[name]})) == ""


@pytest.mark.parametrize(("name", "column"), with_word("head"))
def test_a_parameter_makes_another_head(name, column):
    changed = made(column, **{name: VALUES[name]})
    assert said(changed) == ""
    assert kind_of_head(changed) != kind_of_head(made(column))


@pytest.mark.parametrize(("name", "column"), with_word("no"))
@pytest.mark.usefixtures("_any_processor")
def test_a_parameter_without_effect_is_named_in_a_warning(name, column):
    text = said(made(column, **NEEDS[name] | {name: VALUES[name]}))
    assert re.search(rf"\b{name}=(?!True where)", text)


@pytest.mark.parametrize(("name", "column"), with_word("error"))
def test_a_parameter_is_an_error(name, column, monkeypatch):
    monkeypatch.setattr("transferclf.images.source.ImageSource.load", stop)
    estimator = made(column, **NEEDS[name] | {name: VALUES[name]})
    with pytest.raises(InvalidParameterError):
        estimator.fit(IMAGES, targets_of(estimator))


@pytest.mark.parametrize(("name", "column"), with_word("—"))
def test_an_estimator_lacks_a_parameter(name, column):
    assert name not in inspect.signature(COLUMNS[column][0]).parameters


def small_network():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 5, strides=4)(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Conv2D(4, 1, name="top")(x), name="small")


NETWORK = small_network()


def result(column, images=IMAGES, before=None, **parameters):
    """Return what an estimator predicts after a short fit, and after one to images `before`."""
    short = {"epochs": 1} if column in ("linear", "hidden", "own", "from nothing") else {}
    if column == "fine-tuning":
        short = {"fine_tune_epochs": 1, "soup": 1.0}
    if column != "from nothing":
        short |= {"backbone": NETWORK}
    estimator = made(column, **{"l2": 0.1} | short | parameters)
    targets = targets_of(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferclfWarning)
        for each in (before, images):
            if each is not None:
                estimator.fit(each, targets[: len(each)])
    method = "predict" if column == "ridge" else "predict_proba"
    return getattr(estimator, method)(IMAGES)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.usefixtures("_any_processor")
def test_all_parameters_without_effect_together_change_nothing(column):
    names = [name for name in VALUES if CELLS[name, column] == "no"]
    assert len(names) >= 4
    np.testing.assert_array_equal(
        result(column, **{name: VALUES[name] for name in names}), result(column)
    )


@pytest.mark.parametrize(("name", "column"), with_word("(no)"))
def test_a_parameter_without_effect_and_warning_changes_nothing(name, column):
    before = IMAGES[6:] if name == "warm_start" else None
    found = result(column, before=before, **{name: VALUES[name]})
    # Ridge goes on with the mean and deviation of y, so that its numbers are rounded elsewhere.
    np.testing.assert_allclose(found, result(column), rtol=1e-9)


def test_a_network_from_nothing_stores_nothing():
    store = FeatureStore()
    result("from nothing", cache=store)
    assert store.info().entries == 0


# --- remarks below the table ---------------------------------------------------------------------


@pytest.mark.parametrize("column", ["hidden", "own", "from nothing"])
def test_a_fit_for_linear_heads_refuses_others(column):
    with pytest.raises(InvalidParameterError, match="optimizer='lbfgs' fits"):
        said(made(column, optimizer="lbfgs"))


def test_ridge_is_for_numbers_and_the_squared_error():
    with pytest.raises(InvalidParameterError, match="optimizer must be one of"):
        said(made("L-BFGS", optimizer="ridge"))
    with pytest.raises(InvalidParameterError, match="squared error"):
        said(made("ridge", optimizer="ridge", loss="huber"))
    assert said(made("ridge", optimizer="ridge")) == ""
    assert kind_of_head(made("ridge", loss="huber")) == (True, "lbfgs")


def test_a_held_out_part_is_for_stopping_or_the_soup():
    assert "validation_fraction" in said(made("hidden", validation_fraction=0.3))
    assert said(made("fine-tuning", validation_fraction=0.3)) == ""
    assert "validation_fraction" in said(made("fine-tuning", validation_fraction=0.3, soup=0.5))


def test_an_optimizer_object_has_its_own_decay():
    own = made("fine-tuning", optimizer=keras.optimizers.SGD(), weight_decay=0.3)
    assert "weight_decay=0.3" in said(own)
    plateau = made("fine-tuning", warmup_fraction=0.2, lr_schedule="plateau")
    assert "warmup_fraction=0.2" in said(plateau)


def test_hidden_layers_under_fine_tuning_use_rate_and_epochs():
    assert said(made("fine-tuning", hidden_units=(3,), learning_rate=0.1, epochs=2)) == ""


def test_a_network_from_nothing_trains_all_layers_anyway():
    assert said(made("from nothing", trainable_layers="all")) == ""


@pytest.mark.parametrize("column", ["L-BFGS", "ridge"])
def test_mixing_needs_batches(column):
    mixing = transferclf.Augmentation(mixup=0.2)
    with pytest.raises(InvalidParameterError, match="mixup of Augmentation"):
        said(made(column, augmentation=mixing))


def test_oversampling_is_not_for_several_labels():
    facts = np.stack([LABELS == 0, LABELS < 2], axis=1).astype(int)
    with pytest.raises(InvalidParameterError, match="oversample=True"):
        made("L-BFGS", oversample=True).fit(IMAGES, facts)


def test_random_numbers_matter_to_a_linear_head_only_where_something_is_drawn():
    few = LABELS.copy()
    few[few == 2] = np.where(np.arange(8) < 3, 2, 0)
    drawn = [
        made("L-BFGS", l2=0.1, oversample=True, random_state=seed).fit(IMAGES, few)
        for seed in (0, 7)
    ]
    assert (drawn[0].sample_indices_ != drawn[1].sample_indices_).any()
