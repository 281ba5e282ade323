"""The command line: results, exit codes, and names that would do harm."""

import csv
import inspect
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import transferclf
from transferclf import TransferClassifier, load_model
from transferclf.cli import fit as fit_command
from transferclf.cli.main import COMMANDS, main
from transferclf.cli.options import NO_OPTIONS, options_of
from transferclf.cli.search import settings_of
from transferclf.cli.values import ParameterType

# Names of classes and of a file that a spreadsheet would compute, or a terminal obey.
FORMULA, ESCAPE = "=2+3", "red\x1b[31m"
CLASSES = ["cat", FORMULA, ESCAPE]
HOSTILE_FILE = "@sum\x1b[2J\n.png"
IMAGES = 4  # of each class

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows refuses")


def draw(place, rng):
    """Draw images of another brightness for each class."""
    for number, label in enumerate(CLASSES):
        (place / label).mkdir(parents=True)
        for name in [f"{i}.png" for i in range(IMAGES - 1)] + [HOSTILE_FILE]:
            pixels = rng.integers(80 * number, 80 * number + 60, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / label / name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli") / "photos"
    draw(place, np.random.default_rng(0))
    return place


@pytest.fixture(scope="module")
def model(photos):
    """Return a model that the command line has fitted."""
    path = photos.parent / "a.model"
    done = run("fit", photos, "-o", path, "--image-size", "32", "--l2", "0.01", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["classes"] == dict.fromkeys(sorted(CLASSES), IMAGES)
    assert (facts["backbone"], facts["image_size"], facts["accuracy"]) == ("tiny", [32, 32], None)
    assert "linear head" in done.stderr
    return path


def run(*arguments):
    """Run a command in this process."""
    # Before click 8.2, the runner had to be asked to keep the outputs apart.
    is_old = "mix_stderr" in inspect.signature(CliRunner).parameters
    runner = CliRunner(**({"mix_stderr": False} if is_old else {}))
    return runner.invoke(main, [*map(str, arguments)])


def refused(*arguments):
    """Return the one line about an input that cannot be used."""
    done = run(*arguments)
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("transferclf: error: ")
    assert line.isprintable()
    return line


# --- results


def test_the_held_out_accuracy_is_printed_if_asked(photos, tmp_path):
    done = run(
        "fit", photos, "-o", tmp_path / "b", "--image-size", "32", "--l2", "0.01",
        "--test-fraction", "0.25", "--verbose", "0",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert "on 3 other images" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(load_model(tmp_path / "b").sample_indices_) == 9


def test_predictions_as_csv_are_harmless(model, photos):
    done = run("predict", model, photos, "--csv", "--top", "2", "--verbose", "0")
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["file", "label", "probability", "label_2", "probability_2"]
    assert len(rows) == len(CLASSES) * IMAGES
    labels = {row[1] for row in rows}
    assert labels == {"cat", "'=2+3", "red\\x1b[31m"}
    assert all(0 <= float(row[4]) <= float(row[2]) <= 1 for row in rows)
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r"]


def test_predictions_as_json_have_the_names_as_they_are(model, photos):
    done = run("predict", model, photos / FORMULA, photos / ESCAPE / "0.png", "--json")
    assert done.stdout.isascii()
    rows = json.loads(done.stdout)
    assert [row["label"] for row in rows] == [FORMULA] * IMAGES + [ESCAPE]
    assert rows[-1]["file"] == str(photos / ESCAPE / "0.png")
    assert {os.path.basename(row["file"]) for row in rows} >= {HOSTILE_FILE}
    expected = load_model(model).predict_proba([rows[0]["file"]]).max()
    assert rows[0]["probability"] == pytest.approx(expected, abs=1e-5)


def test_predictions_as_text_have_a_line_for_each_image(model, photos, tmp_path):
    os.symlink(photos / "cat" / HOSTILE_FILE, tmp_path / HOSTILE_FILE)
    done = run("predict", model, tmp_path / HOSTILE_FILE, photos / FORMULA / "0.png")
    first, second = done.stdout.splitlines()
    assert first.split()[0].endswith("@sum\\x1b[2J\\n.png")
    assert first.split()[1] == "cat"
    assert second.split()[1] == FORMULA


@pytest.mark.filterwarnings("default")
def test_images_that_cannot_be_used_are_left_out_if_asked(model, photos, tmp_path):
    (tmp_path / "not.png").write_bytes(b"no image")
    files = [tmp_path / "not.png", photos / "cat" / "0.png", tmp_path / "missing.png"]
    assert "not.png" in refused("predict", model, *files)
    done = run("predict", model, *files, "--on-error", "skip", "--csv", "--verbose", "0")
    assert done.exit_code == 0, done.stderr
    assert [row[1] for row in csv.reader(io.StringIO(done.stdout))] == ["label", "cat"]
    assert "not.png" in done.stderr
    assert "missing.png" in done.stderr


def test_the_evaluation_and_its_page(model, photos, tmp_path):
    pytest.importorskip("jinja2", reason="the extra reports is not installed")
    page = tmp_path / "page.html"
    done = run("evaluate", model, photos, "--html", page, "--json", "--verbose", "0")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == 1.0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "\x1b" not in text
    assert "accuracy 1.000" in run("evaluate", model, photos).stdout


def test_the_features_are_read_without_pickle(photos, tmp_path):
    file = tmp_path / "features.npz"
    done = run("features", photos, "-o", file, "--image-size", "32", "--layer", "block2_unit2_add")
    assert done.exit_code == 0, done.stderr
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["features"].shape == (len(CLASSES) * IMAGES, len(arrays["names"]))
        assert arrays["labels"].tolist() == np.repeat(sorted(CLASSES), IMAGES).tolist()
        assert HOSTILE_FILE in arrays["files"][0] or HOSTILE_FILE in arrays["files"][-1]
        assert arrays["names"][0] == "tiny_block2_unit2_add_avg_0"


def test_the_audit_finds_a_copy(photos, tmp_path):
    pytest.importorskip("pandas", reason="the extra reports is not installed")
    for split in ("train", "test"):
        draw(tmp_path / split, np.random.default_rng(len(split)))
    copied = (tmp_path / "train/cat/0.png").read_bytes()
    (tmp_path / "test/cat/1.png").write_bytes(copied)
    options = ("--split", "train", "--split", "test", "--image-size", "32", "--threshold", "1")
    done = run("audit", tmp_path, *options, "--json", "--verbose", "0")
    assert done.exit_code == 0, done.stderr
    (leak,) = json.loads(done.stdout)["leaks"]
    assert (leak["split"], leak["other_split"], leak["kind"]) == ("train", "test", "exact")
    assert "leaks between splits: 1 pair" in run("audit", tmp_path, *options).stdout


def test_a_search_compares_all_combinations(photos, tmp_path):
    pytest.importorskip("pandas", reason="the extra reports is not installed")
    done = run(
        "search", photos, "--grid", "l2=0.01,100", "--grid", "class-weight=none,balanced",
        "--image-size", "32", "--cv", "2", "--directory", tmp_path, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["name"] for row in rows} == {
        f"l2={l2} class_weight={weight}"
        for l2 in ("0.01", "100")
        for weight in ("none", "balanced")
    }
    assert done.stderr.count("fold 2 of 2") == 4


def test_backbones_can_be_searched():
    assert run("backbones", "vgg1?").stdout.splitlines() == [
        "vgg16  224  14.7 million",
        "vgg19  224  20.0 million",
    ]
    assert json.loads(run("backbones", "tiny", "--json").stdout)[0]["name"] == "tiny"


# --- options


def test_every_parameter_has_its_option():
    for name in ("TransferClassifier", "CNNFeatureExtractor"):
        parameters = {*getattr(transferclf, name)().get_params(deep=False)}
        assert {*options_of(name)} == parameters - NO_OPTIONS
        assert all(len(option.help) > 10 for option in options_of(name).values())


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("int | tuple[int, int] | None", "32", 32),
        ("int | tuple[int, int] | None", "32x48", (32, 48)),
        ("int | tuple[int, int] | None", "None", None),
        ("int | Sequence[int]", "128,64", (128, 64)),
        ("float | Sequence[float]", "0.5x0.25", (0.5, 0.25)),
        ("float | str", "auto", "auto"),
        ("float | str", "1e-3", 1e-3),
        ("str | Path | FeatureStore | None", "none", None),
        ("str | Path | FeatureStore | None", "12", "12"),
        ("PixelRange", "0,4095", (0, 4095)),
        ("PixelRange", "minmax", "minmax"),
    ],
)
def test_values_have_the_type_of_the_parameter(annotation, text, value):
    parsed = ParameterType(annotation).parsed(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_options_reach_the_estimator(photos, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        TransferClassifier, "fit", lambda self, X, y: seen.append(self) or sys.exit(7)
    )
    done = run(
        "fit", photos, "-o", tmp_path / "a", "--hidden-units", "8x4", "--early-stopping",
        "--weights", "none", "--random-state", "3", "--cache", "stored",
    )  # fmt: skip
    assert done.exit_code == 7
    expected = TransferClassifier(
        hidden_units=(8, 4), early_stopping=True, weights=None, random_state=3, cache="stored",
        verbose=1,
    )  # fmt: skip
    assert repr(seen[0]) == repr(expected)


# --- inputs that cannot be used


def test_folders_and_files_that_cannot_be_used(model, photos, tmp_path):
    one, empty = tmp_path / "one", tmp_path / "empty"
    (one / "only").mkdir(parents=True)
    (one / "only" / "a.png").write_bytes((photos / "cat/0.png").read_bytes())
    empty.mkdir()
    output = tmp_path / "a.model"
    assert "folder" in refused("fit", tmp_path / "missing", "-o", output)
    assert "one class only, 'only'" in refused("fit", one, "-o", output)
    assert "No images" in refused("fit", empty, "-o", output)
    assert "no images" in refused("predict", model, empty)
    assert "no archive" in refused("predict", photos / "cat/0.png", photos / "cat/0.png")
    assert "missing" in refused("info", tmp_path / "missing")
    assert "cat/0.png" in refused("evaluate", photos / "cat/0.png", photos)
    assert not output.exists()


def test_outputs_that_cannot_be_written_are_refused_first(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(TransferClassifier, "fit", lambda *_: pytest.fail("work had begun"))
    assert "no folder" in refused("fit", photos, "-o", tmp_path / "no" / "a.model")
    assert "got the folder" in refused("fit", photos, "-o", tmp_path)
    assert ".npz or .parquet" in refused("features", photos, "-o", tmp_path / "a.csv")
    assert ".html" in refused("evaluate", "a", photos, "--html", tmp_path / "a.pdf")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission" in refused("fit", photos, "-o", tmp_path / "a.model")


def test_a_missing_package_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert (
        'needs pyarrow, which is not installed. The extra "parquet" brings it: pip install pyarrow'
        in refused("features", photos, "-o", tmp_path / "a.parquet")
    )
    assert "pip install jinja2 matplotlib pandas" in refused("audit", photos)


def test_parameters_that_cannot_be_used(photos, tmp_path):
    fit = ("fit", photos, "-o", tmp_path / "a.model")
    assert "expected int" in refused(*fit, "--epochs", "many")
    assert "did you mean" in refused(*fit, "--backbone", "mobilnet_v2")
    assert "resize must be one of" in refused(*fit, "--resize", "\x1b[31m")
    assert "--test-fraction" in refused(*fit, "--test-fraction", "0.01")
    assert "NAME=VALUE" in refused("search", photos, "--grid", "no=1", "--directory", "a")
    assert "twice" in refused(
        "search", photos, "--grid", "l2=1", "--grid", "l2=2", "--directory", "a"
    )
    search = ("search", photos, "--grid", "l2=1", "--directory", tmp_path)
    assert f"smallest class has {IMAGES} images" in refused(*search, "--cv", IMAGES + 1)
    assert "No such command" in refused("nonsense")


def test_values_of_a_grid_have_their_types():
    (values,) = settings_of(["hidden-units=8x4"]).values()
    assert values["hidden_units"].value == (8, 4)
    assert [*settings_of(["early_stopping=yes,no"]).values()] == [
        {"early_stopping": True},
        {"early_stopping": False},
    ]


# --- endings


def test_an_interruption_leaves_no_file(photos, tmp_path, monkeypatch):
    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    done = run("features", photos, "-o", tmp_path / "a.npz", "--image-size", "32")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "transferclf: interrupted"
    assert [*tmp_path.iterdir()] == []


def test_an_unexpected_error_has_its_traceback_without_escapes(photos, tmp_path, monkeypatch):
    def broken(*_):
        raise TypeError("\x1b[31mred")

    monkeypatch.setattr(fit_command, "read_folder", broken)
    done = run("fit", photos, "-o", tmp_path / "a.model")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "TypeError: \\x1b[31mred" in done.stderr


def python(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_version_imports_no_libraries_of_networks():
    out, err = python("-X", "importtime", "-m", "transferclf", "--version").communicate()
    assert out == f"transferclf {transferclf.__version__}\n"
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "transferclf.cli.main" in imported
    assert not imported & {"tensorflow", "keras", "sklearn", "numpy", "PIL"}


@pytest.mark.newest
def test_the_facts_of_a_model_need_no_network(model):
    out, err = python("-X", "importtime", "-m", "transferclf", "info", model).communicate()
    assert "kind        TransferClassifier" in out
    assert "  red\\x1b[31m" in out
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "sklearn" in imported
    assert not imported & {"tensorflow", "keras"}


def test_info_shows_what_a_model_is(model):
    shown = run("info", model)
    assert shown.exit_code == 0, shown.stderr
    assert "backbone    tiny, 32 x 32 pixels" in shown.stdout
    facts = json.loads(run("info", model, "--json").stdout)
    assert facts["classes"] == sorted(CLASSES)
    assert facts["parameters"]["l2"] == "0.01"
    assert set(facts["versions"]) >= {"keras", "transferclf"}


def test_export_writes_the_format_of_the_suffix(model, photos, tmp_path):
    done = run("export", model, tmp_path / "a.xml")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a.bin").exists()
    assert transferclf.read_exported(tmp_path / "a.xml").names == tuple(sorted(CLASSES))
    assert "must be one of .onnx" in refused("export", model, tmp_path / "a.pth")
    assert "needs images" in refused("export", model, tmp_path / "a.onnx", "--quantize", "int8")
    assert "quantize" in refused("export", model, tmp_path / "b.xml", "--quantize", "int8")
    assert not (tmp_path / "b.xml").exists()


def test_a_reader_that_has_gone_is_no_traceback():
    process = python("-m", "transferclf", "backbones")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_help_names_every_command():
    out = run("--help").stdout
    for name in COMMANDS:
        assert f"  {name} " in out
        assert run(name, "--help").exit_code == 0


def commands_of_the_page():
    """Return the commands in the code blocks of the page, without redirections."""
    page = Path(__file__).parents[1] / "docs/how_to/command_line.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    commands = [
        shlex.split(line, comments=True) for line in lines if line.startswith("transferclf ")
    ]
    return [line[: line.index(">")] if ">" in line else line for line in commands]


@pytest.mark.scripts
@pytest.mark.slow
def test_the_commands_of_the_page_run(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", np.random.default_rng(1))
    (tmp_path / "photos/cat/0.png").rename(tmp_path / "new.jpg")
    commands = commands_of_the_page()
    assert {name for _, name, *_ in commands} == {*COMMANDS}
    for _, *arguments in commands:
        done = run(*arguments)
        assert done.exit_code == 0, (arguments, done.stderr)
    # For each of the files that the page names.
    written = ["flowers.html", "features.npz", "small.model", "features", "results"]
    for name in [*written, "flowers.onnx", "flowers.tflite", "labels.txt"]:
        assert (tmp_path / name).exists()


@pytest.mark.realdata
def test_fit_predict_and_evaluate_on_photographs(data, tmp_path):
    sports, model = data / "sports10", tmp_path / "sports.model"
    fit = run("fit", sports, "--split", "train", "-o", model, "--image-size", "64")
    assert fit.exit_code == 0, fit.stderr
    first = next((sports / "test").iterdir())
    rows = json.loads(run("predict", model, first, "--json").stdout)
    assert sum(row["label"] == first.name for row in rows) > len(rows) / 2
    measured = run("evaluate", model, sports, "--split", "test", "--json")
    assert json.loads(measured.stdout)["accuracy"] > 0.75
