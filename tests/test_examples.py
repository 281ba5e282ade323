"""The examples run and print what the README says."""

import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from keras.src.backend import config
from PIL import Image

pytestmark = pytest.mark.scripts

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Run an example in this process, as its command line would run in an empty folder."""

    def run(name, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        reason = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                runpy.run_path(str(EXAMPLES / name), run_name="__main__")
            except SystemExit as ended:
                reason = ended.code
        shown, errors = capsys.readouterr()
        code, said = (1, reason) if isinstance(reason, str) else (reason or 0, "")
        return subprocess.CompletedProcess(name, code, shown, errors + said)

    return run


@pytest.fixture
def example_offline(example, tmp_path, monkeypatch):
    """Run an example without access to ImageNet weights."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return example


def test_an_example_runs_as_a_command(tmp_path):
    """Run an example as a command; the other tests save importing TensorFlow again."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "plot_sports.py"), "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert finished.returncode == 1
    assert "TRANSFERCLF_DATA" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_quickstart_on_digits(example, tmp_path):
    finished = example("quickstart.py")
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout
    (accuracy,) = map(float, re.findall(r"test accuracy  ([\d.]+)", shown))
    # Logistic regression on the raw pixels has 0.973.
    assert accuracy >= 0.98
    for word in ("backbone", "images", "classes", "seconds", "precision"):
        assert word in shown
    named = re.findall(r"^(\w+): (\w+) (0\.\d+|1\.000), (\w+) 0\.\d+$", shown, re.MULTILINE)
    assert len(named) == 5
    assert sum(truth == first for truth, first, *_ in named) >= 4
    # The search goes through the network no more, and finds nothing much better than "auto".
    assert "4 penalties in 3 folds: 12 heads" in shown
    assert "for which 0 images went through the network" in shown
    means = [float(mean) for mean in re.findall(r"l2=\S+ +accuracy ([\d.]+)", shown)]
    assert len(means) == 4
    assert 0.97 < max(means) < accuracy + 0.015
    with Image.open(tmp_path / "worst_predictions.png") as picture:
        assert min(picture.size) > 300
    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        assert min(picture.size) > 300


@pytest.fixture
def folder(tmp_path, rng):
    """Make class folders of noise images: {"train/cat": 5} makes five."""

    def make(counts):
        for name, count in counts.items():
            place = tmp_path / "my photos" / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
        return tmp_path / "my photos"

    return make


@pytest.mark.parametrize(
    "counts",
    [
        {"train/a": 6, "train/b": 6},
        {"Train/a": 6, "Train/b": 6, "Test/a": 2, "Test/b": 2},
        {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2, "valid": 0},
    ],
    ids=["train only", "capitals", "an empty split"],
)
def test_the_quickstart_on_typical_folders(example, folder, counts):
    finished = example("quickstart.py", folder(counts))
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout
    assert "test accuracy" in shown
    assert "class a has only" in shown


@pytest.mark.parametrize("counts", [{"a": 9, "b": 1}, {"a": 2, "b": 2}])
def test_the_quickstart_reports_too_few_images(example, folder, counts):
    finished = example("quickstart.py", folder(counts))
    assert finished.returncode == 1
    assert "cannot be split 75/25" in finished.stderr
    assert "Traceback" not in finished.stderr


def few_of(folder, place, number=12):
    """Return a folder with links to a number of images of each class folder, or to all."""
    for entry in sorted(folder.rglob("*")):
        if entry.is_dir():
            here = place / "few" / entry.relative_to(folder.parent)
            here.mkdir(parents=True)
            for path in sorted(path for path in entry.iterdir() if path.is_file())[:number]:
                (here / path.name).symlink_to(path)
    return place / "few" / folder.name


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "note"),
    [("sports10", "classes        10"), ("blood_smear", "class BASOPHIL has only 3 images")],
)
def test_the_quickstart_on_a_folder(example, data, tmp_path, name, note):
    finished = example("quickstart.py", few_of(data / name, tmp_path), "--output", "matrix.png")
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout
    assert "test accuracy" in shown
    assert note in shown


@pytest.fixture
def coloured(tmp_path, rng):
    """Make folders of bright and dark images, such as "cells/train", for each split."""

    def make(name, splits, classes, size):
        for split in splits:
            for number, label in enumerate(classes):
                place = tmp_path / "data" / name / split / label
                place.mkdir(parents=True)
                for copy in range(9):
                    low = 250 * number // len(classes)
                    pixels = rng.integers(low, low + 40, (*size, 3)).clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(place / f"_{copy}_{copy}.png")
        return tmp_path / "data"

    return make


def rows_of(markdown):
    """Return the cells of a Markdown table, by the first cell of each line."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells[2:]}


def test_the_blood_cells_example(example, coloured, tmp_path):
    data = coloured("blood_cells4", ["train", "test", "test_simple"], ["A", "B", "C"], (30, 40))
    finished = example(
        "plot_blood_cells.py", "--data", data, "--quick", "--only", "fr",
        "--output", "table.md", "--figure", "figure.png", "--cache", "features",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    assert list(rows) == [
        "from nothing, rmsprop",
        "from nothing, adam",
        "from nothing, sgd",
        "from nothing, adam, augmented",
        "frozen",
    ]
    n_images, *scores, reported, _ = rows["frozen"]
    assert (n_images, reported) == ("24", "0.921")
    assert min(map(float, scores)) > 0.9
    assert rows["from nothing, adam, augmented"][3] == ""
    assert "reduced run" in finished.stdout
    assert finished.stdout.strip() == (tmp_path / "table.md").read_text().strip()
    with Image.open(tmp_path / "figure.png") as picture:
        assert min(picture.size) > 300
    assert any((tmp_path / "features").iterdir())


def test_the_fine_tuned_blood_cells_example(example, coloured):
    data = coloured("blood_cells4", ["train", "test", "test_simple"], ["A", "B"], (30, 40))
    finished = example("plot_blood_cells.py", "--data", data, "--quick", "--only", "fine-tuned")
    assert finished.returncode == 0, finished.stderr
    n_images, *scores, reported, _ = rows_of(finished.stdout)["fine-tuned"]
    assert (n_images, reported) == ("16", "0.921")
    assert min(map(float, scores)) > 0.7


def test_the_scratch_networks_example(example, coloured, tmp_path):
    data = coloured("cifar10_subset", ["train", "test"], ["A", "B", "C"], (32, 32))
    finished = example(
        "plot_scratch_networks.py", "--data", data, "--quick", "--only", "whitened",
        "--output", "table.md", "--figure", "figure.png",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    assert list(rows) == ["base, augmented, whitened"]
    for n_weights, trained, tested, _ in rows.values():
        assert int(n_weights.replace(",", "")) > 2_000_000
        assert 0 <= float(trained) <= 1
        assert 0 <= float(tested) <= 1
    assert "24 training images" in finished.stdout
    assert finished.stdout.strip() == (tmp_path / "table.md").read_text().strip()
    with Image.open(tmp_path / "figure.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize("name", ["plot_blood_cells.py", "plot_scratch_networks.py"])
def test_examples_name_missing_images(example, tmp_path, name):
    finished = example(name, "--data", tmp_path)
    assert finished.returncode == 1
    assert "TRANSFERCLF_DATA" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("name", "folder"),
    [("plot_blood_cells.py", "blood_cells4"), ("plot_scratch_networks.py", "cifar10_subset")],
)
def test_examples_refuse_unknown_methods(example, coloured, name, folder):
    data = coloured(folder, ["train", "test", "test_simple"], ["A", "B"], (8, 8))
    finished = example(name, "--data", data, "--quick", "--only", "nonsense")
    assert finished.returncode == 1
    assert "'nonsense'" in finished.stderr
    assert "Traceback" not in finished.stderr


def shares(cells):
    """Return the cells as numbers, and check that they are between 0 and 1."""
    values = [float(cell) for cell in cells]
    assert all(0 <= value <= 1 for value in values)
    return values


def is_written(finished, tmp_path):
    """Return whether the table and the figure are in the given files."""
    with Image.open(tmp_path / "figure.png") as picture:
        is_drawn = min(picture.size) > 100
    return is_drawn and (tmp_path / "table.md").read_text().strip() in finished.stdout


WRITTEN = ("--output", "table.md", "--figure", "figure.png")


def test_the_animals_example_without_imagenet_weights(example_offline, coloured, tmp_path):
    data = coloured("caltech_animals35", ["."], ["ant", "bass", "crab", "emu"], (24, 30))
    finished = example_offline("plot_animals.py", "--data", data, "--quick", *WRITTEN)
    assert finished.returncode == 0, finished.stderr
    assert "note: without 'mobilenet_v2'" in finished.stdout
    rows = rows_of(finished.stdout)
    assert list(rows) == [
        "frozen",
        "frozen, stretched instead of cropped",
        "oversampled",
        "augmented, views=1",
        "fine-tuned, last 3 layers",
    ]
    for *cells, _ in rows.values():
        accuracy, top_3, f1, auc = shares(cells)
        assert top_3 >= accuracy
        assert f1 > 0.3
        assert auc > 0.7
    assert "30 images to train on, 6 to test on; backbone tiny, 32 pixels" in finished.stdout
    assert is_written(finished, tmp_path)


def test_the_sports_example(example, coloured, tmp_path):
    data = coloured("sports10", ["train", "valid", "test"], ["archery", "axe", "judo"], (24, 30))
    finished = example(
        "plot_sports.py", "--data", data, "--quick", "--backbone", "tiny", "--cache", "features",
        *WRITTEN,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    assert list(rows) == [
        "head, steps of 1e-5",
        "and the last 3 layers, steps of 1e-4",
        "default",
        "default and the last 3 layers",
    ]
    assert [cells[2] for cells in rows.values()] == ["0.610", "0.907", "", ""]
    assert min(shares(rows["default"][:2])) > 0.7
    assert shares(rows["head, steps of 1e-5"][:2])[1] <= shares(rows["default"][:2])[1]
    assert "27 images to train on, 27 and 27 to measure on" in finished.stdout
    assert is_written(finished, tmp_path)
    assert any((tmp_path / "features").iterdir())


def test_the_unknowns_example(example, coloured, tmp_path):
    for name, splits in {"sports10": ["test"], "blood_cells4": ["test_simple"]}.items():
        coloured(name, splits, ["x", "y"], (24, 30))
    kinds = ["ape", "bat", "cat", "dog", "elk", "fox", "gnu"]
    data = coloured("caltech_animals35", ["."], kinds, (24, 30))
    finished = example("plot_unknowns.py", "--data", data, "--quick", *WRITTEN)
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    numbers = {"other animals": "18", "sports": "18", "blood cells": "18"}
    assert {name: cells[0] for name, cells in rows.items()} == numbers
    assert [len(shares(cells[1:])) for cells in rows.values()] == [3, 3, 3]
    assert "31 images to learn from; of 14 others of the same kinds" in finished.stdout
    assert is_written(finished, tmp_path)


def test_the_stacked_features_go_through_each_network_once(example_offline, coloured, tmp_path):
    data = coloured("sports10", ["train", "valid", "test"], ["archery", "axe", "judo"], (24, 30))
    finished = example_offline(
        "plot_stacking.py", "--data", data, "--quick", "--backbones", "tiny", "mobilenet_v2_035",
        *WRITTEN,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "note: without 'mobilenet_v2_035'" in finished.stdout
    rows = rows_of(finished.stdout)
    # 27 images to train on and 54 to test on.
    computed = {name: int(cells[2]) for name, cells in rows.items()}
    assert computed.pop("tiny, logistic regression") == 81
    assert computed.pop("tiny, block 2, logistic regression") == 81
    assert set(computed.values()) == {0}
    assert list(computed)[-1] == "stacked logistic regressions"
    assert min(shares(rows["side by side, logistic regression"][:2])) > 0.7
    shares(rows["stacked logistic regressions"][:2])
    assert is_written(finished, tmp_path)


def test_the_search_goes_through_each_network_once(example_offline, coloured, tmp_path):
    data = coloured("sports10", ["train", "valid", "test"], ["archery", "axe", "judo"], (24, 30))
    finished = example_offline(
        "plot_head_search.py", "--data", data, "--quick", "--backbones", "mobilenet_v2", "tiny",
        *WRITTEN,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "note: without 'mobilenet_v2'" in finished.stdout
    rows = rows_of(finished.stdout)
    assert rows["tiny"][:2] == ["8", "relu"]
    shares([rows["tiny"][3], rows["optimizer"][1]])
    assert rows["features, each image once a network"][0] == "27"
    assert rows["6 heads on stored features"][0] == "0"
    assert rows["the same search without stored features, from one trial a network"][0] == "162"
    assert is_written(finished, tmp_path)


def test_the_example_of_several_labels(example_offline, coloured, tmp_path):
    data = coloured("sports10", ["train", "valid", "test"], ["archery", "axe", "ball"], (30, 40))
    finished = example_offline(
        "plot_several_labels.py", "--data", data, "--quick",
        "--output", "table.md", "--figure", "figure.png",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    assert list(rows) == ["several labels", "balanced weights", "a threshold for each label"]
    precision, micro_f1, all_right, _ = map(float, rows["several labels"])
    assert min(precision, micro_f1) > 0.9
    assert all_right > 0.8
    assert "60 pairs to train on, 20 to test on; backbone tiny" in finished.stdout
    assert finished.stdout.strip().endswith((tmp_path / "table.md").read_text().strip())
    with Image.open(tmp_path / "figure.png") as picture:
        assert min(picture.size) > 300


def test_the_search_reports_that_no_network_is_available(example_offline, coloured):
    data = coloured("sports10", ["train", "valid", "test"], ["archery", "axe"], (8, 8))
    finished = example_offline(
        "plot_head_search.py", "--data", data, "--quick", "--backbones", "vgg16"
    )
    assert finished.returncode == 1
    assert "list_backbones" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_numbers_example_without_imagenet_weights(example_offline, coloured, tmp_path):
    data = coloured("sports10", ["train"], ["archery", "axe", "judo"], (24, 30))
    finished = example_offline("plot_numbers.py", "--data", data, "--quick", *WRITTEN)
    assert finished.returncode == 0, finished.stderr
    rows = rows_of(finished.stdout)
    assert len(rows) == 5
    # The darkness of these images follows from one of three colours.
    _, error_of_crop, _, error_of_dark, _ = map(float, rows["ridge, the default"])
    assert error_of_crop < 0.4
    assert error_of_dark < 0.5
    spoiled = [
        float(rows[f"{name}, 5% of the targets wrong"][1]) for name in ("ridge", "Huber's loss")
    ]
    assert min(spoiled) < 5
    assert "20 images to train on, 7 to test on; backbone tiny, 32 pixels" in finished.stdout
    assert is_written(finished, tmp_path)


@pytest.mark.parametrize(
    "name", ["animals", "numbers", "stacking", "head_search", "several_labels"]
)
def test_more_examples_name_missing_images(example, tmp_path, name):
    finished = example(f"plot_{name}.py", "--data", tmp_path)
    assert finished.returncode == 1
    assert "TRANSFERCLF_DATA" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.realdata
def test_the_sports_example_names_imagenet_classes(example, data, tmp_path):
    few = few_of(data / "sports10", tmp_path).parent
    finished = example("plot_sports.py", "--data", few, "--quick", "--backbone", "mobilenet_v2")
    assert finished.returncode == 0, finished.stderr
    if "note: " in finished.stdout:
        pytest.skip("no MobileNetV2 weights below KERAS_HOME")
    assert "mobilenet_v2 as it is sees" in finished.stdout
    assert "bow" in rows_of(finished.stdout)["archery"][0]
