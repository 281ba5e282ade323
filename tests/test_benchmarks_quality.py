"""The comparison of fine-tuning: its splits, its tables and its claims, with given figures."""

import importlib
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = pytest.mark.scripts

FIGURES = {
    "sports10": {"probe": (0.97, 10), "ours": (0.98, 50), "fastai": (0.95, 100)},
    "blood_smear": {"probe": (0.75, 10), "ours": (0.745, 59), "fastai": (0.75, 100)},
    "digits": {"probe": (0.9, 10), "ours": (0.5, 900), "fastai": (0.9, 100)},
}


@pytest.fixture(scope="module")
def quality():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("fine_tuning_quality")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def run(quality, monkeypatch, capsys):
    """Return a function that runs the script on digits, and the splits that its children read."""
    seen = []

    def child(function, method, images, setting):
        split = quality.read(images)
        seen.append((method, setting.seed, split))
        return {"accuracy": (len(method) + setting.seed) / 100, "cpu": 10.0 * (setting.seed + 1)}

    def run(*arguments):
        seen.clear()
        command = ["fine_tuning_quality.py", "--sets", "digits", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        quality.main()
        return capsys.readouterr().out, list(seen)

    monkeypatch.setattr(quality, "child_result", child)
    for name in quality.ENVIRONMENT:
        monkeypatch.setenv(name, "1")  # the script sets these; the old values come back
    before = dict(quality.SETS)
    yield run
    quality.SETS.clear()
    quality.SETS.update(before)


def parts_of_digits():
    digits = load_digits()
    return train_test_split(
        digits.images, digits.target, test_size=0.25, stratify=digits.target, random_state=0
    )


def write_class_folders(folder, copies=0):
    """Write eight images of "few" and 140 of "many", and copies of the first of "many"."""
    rng = np.random.default_rng(0)
    for name, number in (("few", 8), ("many", 140)):
        (folder / name).mkdir(parents=True)
        for place in range(number):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place:03}.png")
    for place in range(copies):
        shutil.copy(folder / "many" / "000.png", folder / "many" / f"again{place}.png")
    return folder


def test_folders_of_ones_own_are_sets_too(run, quality, tmp_path):
    folder = write_class_folders(tmp_path / "mine", copies=3)
    text, seen = run(folder, "--methods", "probe", "--seeds", 0)
    assert "| mine | 0.050, 10 |" in text
    assert [len(split.y) for _, _, split in seen] == [len(parts_of_digits()[2]), 6 + 100]
    split = seen[1][2]
    assert [*np.unique(split.y, return_counts=True)[1]] == [6, 100]
    assert [*np.unique(split.y_held, return_counts=True)[1]] == [2, 35]
    images = [*split.X, *split.X_held]
    assert len(set(images)) == len(images)
    assert not [image for image in images if "again" in image]
    again = quality.split_of("mine", 0, validation=False)
    np.testing.assert_array_equal(again.X, split.X)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digit", "class folders or one of sports10"),
        ("digits/", "there is a set named 'digits' already"),
        ("x.txt", "class folders or one of sports10"),
        ("", "class folders or one of sports10"),
        ("/", "class folders or one of sports10"),
        ("empty", "empty"),
        ("mine mine", "there is a set named 'mine' already"),
        ("mine other/mine", "there is a set named 'mine' already"),
    ],
)
def test_sets_that_are_not_there_are_refused(run, tmp_path, monkeypatch, capsys, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").touch()
    for folder in ("mine", "other/mine"):
        write_class_folders(tmp_path / folder)
    with pytest.raises(SystemExit):
        run(*name.split() or [name])
    assert said in capsys.readouterr().err


def test_the_folder_one_is_in_is_named_as_it_is(quality, run, tmp_path, monkeypatch):
    monkeypatch.chdir(write_class_folders(tmp_path / "mine"))
    assert "| mine |" in run(".", "--methods", "probe", "--seeds", 0)[0]


def test_all_methods_have_the_same_split_and_means_are_over_seeds(run):
    text, seen = run("--methods", "probe", "ours", "--seeds", 0, 2)
    assert [(method, seed) for method, seed, _ in seen] == [
        *(("probe", 0), ("ours", 0)),
        *(("probe", 2), ("ours", 2)),
    ]
    _, _, y, y_test = parts_of_digits()
    for _, _, split in seen:
        np.testing.assert_array_equal(split.y, y)
        np.testing.assert_array_equal(split.y_held, y_test)
        assert split.X.shape == (len(y), 8, 8, 3)
        assert (split.X.dtype, split.X.max()) == (np.uint8, 255)
    assert text.splitlines()[:4] == [
        "| accuracy, CPU s | probe | ours |",
        "| --- | ---: | ---: |",
        "| digits | 0.060, 20 | 0.050, 20 |",
        "| mean | 0.060, 20 | 0.050, 20 |",
    ]


def test_validation_leaves_the_test_images_alone(run):
    _, seen = run("--methods", "probe", "ours", "--seeds", 0, 1, "--validation")
    X, _, y, _ = parts_of_digits()
    by_seed = {}
    for _, seed, split in seen:
        first = by_seed.setdefault(seed, split)
        assert all(map(np.array_equal, split, first))
        both = np.concatenate([split.X, split.X_held])[..., 0].reshape(len(y), -1)
        whole = np.round(X * (255 / 16)).astype(np.uint8).reshape(len(y), -1)
        assert sorted(map(bytes, both)) == sorted(map(bytes, whole))
        assert len(split.y_held) == round(len(y) / 4)
        shares = np.bincount(split.y_held) / np.bincount(y)
        assert np.abs(shares - 0.25).max() < 0.02
    assert not np.array_equal(by_seed[0].y_held, by_seed[1].y_held)


def test_measurements_in_the_file_are_not_repeated(run, tmp_path):
    file = tmp_path / "results.jsonl"
    arguments = ("--methods", "probe", "ours", "--results", file)
    first, seen = run(*arguments)
    assert len(seen) == 6
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))  # as if the last one had been interrupted
    second, seen = run(*arguments)
    assert [(method, seed) for method, seed, _ in seen] == [("ours", 2)]
    assert second == first
    assert len(run(*arguments, "--validation")[1]) == 6
    assert len(run(*arguments, "--size", 64)[1]) == 6


def test_without_fastai_the_table_says_so(quality, run, monkeypatch):
    installed = {"tensorflow", "openvino", "transferclf", "torch", "timm"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name if name in installed else None
    )
    text, seen = run("--methods", "fastai", "ours", "--seeds", 0)
    assert [method for method, *_ in seen] == ["ours"]
    assert "| digits | fastai cannot be imported | 0.040, 10 |" in text
    assert "fastai's" not in text


def test_claims_are_about_given_figures(quality):
    found = {
        name: {method: quality.Figures(*pair) for method, pair in each.items()}
        for name, each in FIGURES.items()
    }
    made = {it.what: (it.measured, it.bound, it.holds) for it in quality.claims(found)}
    assert made == {
        "sports10: points above fastai": (3, 0, True),
        "blood_smear: points above fastai": (-0.5, 0, False),
        "points above fastai, mean": (1.25, 2, False),
        "CPU seconds, share of fastai's": (0.545, 0.6, True),
        "CPU seconds, share of fastai's, largest": (0.59, 0.6, True),
        "points above the probe, least": (-0.5, -0.5, True),
        "points above the probe, mean": (0.25, 1.5, False),
    }
    for each in found.values():
        del each["fastai"]
    assert [it.what for it in quality.claims(found)] == [*made][-2:]
    for each in found.values():
        each["ours, last block"] = quality.Figures(0.76, 20)
        each["ours, auto"] = quality.Figures(0.975, 60)
    best = quality.claims(found)[-1]
    assert (best.what, best.measured) == ("points of 'auto' above the best choice, least", -0.5)


def test_a_child_measures_held_out_images(quality, tmp_path, monkeypatch):
    images = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1)
    split = quality.Split(images[:4], images[4:], np.arange(4) % 2, np.array([0, 1, 0, 0]))

    def fit(X, y, setting, factor):
        assert (setting.size, factor, y.tolist()) == (16, 3, [0, 1, 0, 1])
        return lambda held: held.ravel() % 2

    monkeypatch.setitem(quality.METHODS, "parity", quality.Method(fit, (), {"factor": 3}))
    file = str(quality.write(split, tmp_path))
    found = quality.measure("parity", file, ["tiny", 16, 0])
    assert found["accuracy"] == 0.75
    assert found["cpu"] >= 0


def test_other_features_are_an_error(quality, monkeypatch):
    def child(function, images, setting):
        return [[1.0, 2.0], [3.0, 4.0 + (0.002 if function is quality.fastai_features else 0)]]

    monkeypatch.setattr(quality, "child_result", child)
    setting = quality.Setting("efficientnet_lite0", 32, 0)
    with pytest.raises(AssertionError, match=r"differ by at most 0\.001, got 0\.002"):
        quality.check_features("split.npz", setting)
    monkeypatch.setattr(quality, "TOLERANCE", 0.003)
    quality.check_features("split.npz", setting)


# --- one change of the recipe at a time


@pytest.fixture
def ablation(quality):
    return importlib.import_module("fine_tuning_ablation")


ACCURACIES = {"probe": 0.5, "no soup": 0.65}  # and 0.7 of the recipe


@pytest.fixture
def run_ablation(ablation, monkeypatch, capsys):
    """Return a function that runs the script on digits, and the changes that it measured."""
    seen = []

    def measure(change, what, store):
        seen.append((change, what["backbone"], what["seed"]))
        accuracy = ACCURACIES.get(change, 0.7) + 0.1 * (what["backbone"] == "tiny")
        return ablation.Figures(accuracy, 2 * accuracy, 30.0 if change == "recipe" else 15.0)

    def run(*arguments):
        seen.clear()
        command = ["fine_tuning_ablation.py", "--sets", "digits", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        ablation.main()
        return capsys.readouterr().out, list(seen)

    monkeypatch.setattr(ablation, "measure", measure)
    return run


def test_changes_are_compared_with_the_recipe(run_ablation):
    chosen = ("--backbones", "tiny", "MobileNetV2", "--changes", "probe", "no soup")
    text, seen = run_ablation(*chosen, "--seeds", 1)
    changes = ("recipe", "probe", "no soup")
    assert seen == [(change, name, 1) for name in ("tiny", "MobileNetV2") for change in changes]
    assert text.splitlines() == [
        "| change | tiny | MobileNetV2 | worst set | log loss | CPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| recipe | 80.0 | 70.0 |  | 1.500 | 1.00 |",
        "| probe | -20.0 | -20.0 | -20.0 | -0.400 | 0.50 |",
        "| no soup | -5.0 | -5.0 | -5.0 | -0.100 | 0.50 |",
        "",
        "| change | digits |",
        "| --- | ---: |",
        "| recipe | 75.0 |",
        "| probe | -20.0 |",
        "| no soup | -5.0 |",
    ]


def test_changes_in_the_file_are_not_measured_again(run_ablation, tmp_path):
    file = tmp_path / "changes.jsonl"
    arguments = ("--backbones", "tiny", "--changes", "no soup", "--results", file)
    first, seen = run_ablation(*arguments)
    assert len(seen) == 2
    second, seen = run_ablation(*arguments)
    assert (seen, second) == ([], first)
    assert len(run_ablation(*arguments, "--size", 32)[1]) == 2


def test_each_change_is_one_of_the_estimator(ablation):
    from transferclf import TransferClassifier

    for change in ablation.CHANGES.values():
        assert TransferClassifier(**change).get_params().items() >= change.items()
