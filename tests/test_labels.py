"""Class names in the estimators, and warnings for names that look alike."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.preprocessing import LabelEncoder

from transferclf import TransferClassifier, load_image_folder, load_image_table, save_model
from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.reports import Evaluation, GradCAMDisplay, evaluate

COLOURS = {
    "Ångström": (10, 200, 200),
    "c1": (200, 30, 30),
    "c2": (220, 220, 40),
    "c10": (90, 0, 90),
    "Zebra": (30, 30, 200),
}
TESTED = ["Ångström", "c10", "Zebra"]


def draw(root, names, number, form="NFC", session=""):
    rng = np.random.default_rng(number)
    for name in names:
        folder = root / unicodedata.normalize(form, name) / session
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(number):
            pixels = np.array(COLOURS[name]) + rng.integers(0, 30, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two roots")


@pytest.fixture(scope="module")
def train(folder):
    return load_image_folder(draw(folder / "train", COLOURS, 5))


@pytest.fixture(scope="module")
def test(folder):
    """Load another folder without two of the classes, with names as a disk of macOS writes them."""
    return load_image_folder(draw(folder / "test", TESTED, 3, "NFD"))


def new():
    return TransferClassifier("tiny", image_size=32, l2=0.01)


@pytest.fixture(scope="module")
def classifier(train):
    return new().fit(train.data, train.target)


class TestTwoRoots:
    def test_all_results_use_one_order_of_classes(self, classifier, train):
        assert train.target_names == ["Zebra", "c1", "c10", "c2", "Ångström"]
        assert classifier.classes_.tolist() == train.target_names
        proba = classifier.predict_proba(train.data)
        best = [max(zip(row, train.target_names, strict=True))[1] for row in proba]
        assert best == train.target.tolist()

    def test_score_and_predict_use_the_names(self, classifier, test):
        assert test.target_names == ["Zebra", "c10", "Ångström"]
        assert classifier.score(test.data, test.target) == 1.0
        assert classifier.predict(test.data).tolist() == test.target.tolist()

    def test_evaluate_uses_the_names(self, classifier, test):
        evaluation = evaluate(classifier, test.data, test.target)
        assert evaluation.accuracy == 1.0
        assert evaluation.classes.tolist() == ["Zebra", "c1", "c10", "c2", "Ångström"]
        assert evaluation.per_class["support"].tolist() == [3, 0, 3, 0, 3]
        assert "c10" in str(evaluation)

    def test_validation_data_use_the_names(self, train, test):
        fitted = new().fit(train.data, train.target, validation_data=(test.data, test.target))
        assert fitted.history_["val_accuracy"][-1] == pytest.approx(1.0)

    def test_labels_of_a_table_give_the_result_of_folders(self, classifier, folder, test):
        lines = [f"{name},{label}" for name, label in zip(test.filenames, test.target, strict=True)]
        (folder / "labels.csv").write_text("\n".join(["file,label", *lines]), encoding="utf-8")
        table = load_image_table(folder / "labels.csv", "file", "label", root=folder / "test")
        assert classifier.score(table.data, table.target) == 1.0

    def test_the_order_of_classes_does_not_change_the_result(self, classifier, folder):
        bunch = load_image_folder(folder / "train", classes=["c2", "c10", "c1"])
        assert classifier.score(bunch.data, bunch.target) == 1.0
        fitted = new().fit(bunch.data, bunch.target)
        assert fitted.classes_.tolist() == ["c1", "c10", "c2"]
        assert fitted.score(bunch.data, bunch.target) == 1.0

    def test_names_convert_to_numbers(self, train):
        names, numbers = np.unique(train.target, return_inverse=True)
        assert names.tolist() == train.target_names
        assert LabelEncoder().fit_transform(train.target).tolist() == numbers.tolist()
        assert [train.target_names[number] for number in numbers] == train.target.tolist()

    @pytest.mark.slow
    def test_predictions_are_names_in_a_new_process(self, classifier, test, tmp_path):
        store = str(tmp_path / "store")
        clone(classifier).set_params(cache=store).fit(test.data, test.target)
        save_model(classifier, tmp_path / "model")
        code = (
            "import sys; from transferclf import load_model\n"
            "classifier = load_model(sys.argv[1]).set_params(cache=sys.argv[2])\n"
            "print(*map(ascii, classifier.predict(sys.argv[3:]).tolist()), sep='\\n')\n"
            "print('tensorflow' in sys.modules)"  # stored features make this test fast
        )
        finished = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "model", store, *test.data],
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        *predicted, has_tensorflow = finished.stdout.splitlines()
        assert predicted == list(map(ascii, test.target.tolist()))
        assert has_tensorflow == "False"

    def test_images_of_one_session_are_in_one_fold(self, tmp_path):
        for session, number in {"monday": 2, "tuesday": 3}.items():
            draw(tmp_path, ["c1", "c10"], number, session=session)
        bunch = load_image_folder(tmp_path, recursive=True)
        folds = GroupKFold(2).split(bunch.data, bunch.target, bunch.groups)
        assert {frozenset(bunch.groups[held]) for _, held in folds} == {
            frozenset({"monday"}),
            frozenset({"tuesday"}),
        }
        scores = cross_val_score(
            new(), bunch.data, bunch.target, groups=bunch.groups, cv=GroupKFold(2)
        )
        assert scores.tolist() == [1.0, 1.0]


WRITTEN = {  # the known name, and other spellings
    "c10": ["C10", "c 10", "c10 ", "\uff4310", "c\u200b10"],
    "Ångström": ["ångström", "ÅNGSTRÖM", unicodedata.normalize("NFD", "Ångström")],
}
ALIKE = [(known, other) for known, others in WRITTEN.items() for other in others]


def renamed(test, known, other):
    """Return the labels with one name replaced by another."""
    return np.array([other if label == known else label for label in test.target.tolist()])


class TestLookAlikes:
    @pytest.mark.parametrize(("known", "other"), ALIKE)
    def test_score_proposes_the_known_name(self, classifier, test, known, other):
        with pytest.warns(
            TransferclfWarning, match=r"look like a class that is: .* like "
        ) as caught:
            score = classifier.score(test.data, renamed(test, known, other))
        assert score == pytest.approx(2 / 3)
        (warning,) = caught
        assert warning.filename == __file__
        same_in_print = unicodedata.normalize("NFC", other) == known
        shown = ascii if same_in_print or "\uff43" in other else repr
        assert f"{shown(other)} like {shown(known)};" in str(warning.message)

    @pytest.mark.parametrize("kind", [list, np.array, lambda y: np.array(y, dtype=object)])
    def test_score_warns_for_labels_of_any_type(self, classifier, test, kind):
        labels = kind(renamed(test, "c10", "C10").tolist())
        with pytest.warns(TransferclfWarning, match="'C10' like 'c10'"):
            classifier.score(test.data, labels, sample_weight=np.ones(len(labels)))

    def test_score_does_not_warn_of_other_classes(self, classifier, test):
        assert classifier.score(test.data, renamed(test, "c10", "newt")) == pytest.approx(2 / 3)

    @pytest.mark.parametrize(("known", "other"), ALIKE)
    def test_evaluate_and_validation_data_propose(self, classifier, train, test, known, other):
        labels = renamed(test, known, other)
        with pytest.raises(ValueError, match=r"of the known classes.*Did you mean .* for .*\?$"):
            evaluate(classifier, test.data, labels)
        with pytest.raises(ValueError, match=r"of the known classes.*Did you mean .* for .*\?$"):
            new().fit(train.data, train.target, validation_data=(test.data, labels))

    def test_partial_fit_proposes(self, train):
        unfitted = TransferClassifier("tiny", image_size=32)
        with pytest.raises(ValueError, match=r"Got \['c1'\] too. Did you mean 'C1' for 'c1'\?"):
            unfitted.partial_fit(train.data[:5], ["c1", "c2"] * 2 + ["c2"], classes=["C1", "c2"])

    def test_names_that_do_not_look_alike_get_no_proposal(self, classifier, test):
        with pytest.raises(ValueError, match=r"Got \['c11'\] too\.$"):
            evaluate(classifier, test.data, renamed(test, "c10", "c11"))

    def test_numbers_in_place_of_names_raise_an_error(self, train):
        fitted = new().fit(train.data[:10], ["3", "7"] * 5)
        with pytest.raises(
            ValueError, match=r"Got \[3, 7\] too. Did you mean '3' for 3, '7' for 7"
        ):
            evaluate(fitted, train.data[:10], [3, 7] * 5)

    def test_earlier_predictions_are_accepted(self):
        with pytest.warns(TransferclfWarning, match="'Cat' like 'cat'") as caught:
            evaluation = Evaluation.from_predictions(["Cat", "dog"], ["cat", "dog"])
        assert evaluation.accuracy == 0.5
        assert [warning.filename for warning in caught] == [__file__]
        Evaluation.from_predictions(["Cat", "cat"], ["cat", "Cat"])  # both names are predicted
        Evaluation.from_predictions(["Cat", "dog"], ["cat", "dog"], classes=["Cat", "cat", "dog"])

    def test_class_weight_proposes(self, train):
        with pytest.raises(InvalidParameterError, match=r"Did you mean 'c10' for 'C10'\?"):
            new().set_params(class_weight={"C10": 2.0}).fit(train.data, train.target)

    def test_heat_maps_propose(self, classifier, test):
        with pytest.raises(InvalidParameterError, match=r"Did you mean 'Zebra' for 'zebra'\?"):
            GradCAMDisplay.from_estimator(classifier, test.data, class_="zebra")
