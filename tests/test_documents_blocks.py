"""Every Python block of the documents runs without a change.

The blocks of a page run in order, in one namespace, in a new folder. The folder holds small drawn
images under the names that the page uses.
"""

import inspect
import itertools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import joblib
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from page_helpers import PAGES, read
from PIL import Image

from transferclf import load_model
from transferclf.cli.main import main
from transferclf.exceptions import InvalidParameterError
from transferclf.training import recipe

# Languages of fences. A new one has to be added here, so that no Python block is missed.
LANGUAGES = {"python", "bash", "sh", "text"}
# Directives of the site, which are written as fences too.
DIRECTIVES = {"{toctree}", "{eval-rst}", "{include}"}
# Class folders that a page reads, by the name of the page.
FOLDERS = {
    "README.md": ["photos"],
    "docs/coming_from/autogluon.md": ["photos"],
    "docs/coming_from/fastai.md": ["photos"],
    "docs/coming_from/keras.md": ["photos"],
    "docs/coming_from/scikeras.md": ["photos"],
    "docs/coming_from/timm.md": ["photos"],
    "docs/tutorials/auditing.md": ["photos/train", "photos/test"],
    "docs/how_to/corrupt_files.md": ["photos"],
    "docs/start/index.md": ["photos"],
    "docs/how_to/experiments.md": ["photos"],
    "docs/how_to/exporting.md": ["photos"],
    "docs/how_to/jobs_and_the_store.md": ["photos"],
    "docs/tutorials/numbers.md": ["photos"],
    "docs/how_to/other_tools.md": ["photos"],
    "docs/how_to/report.md": ["sports/train", "sports/test"],
    "docs/tutorials/scaling_out.md": ["photos"],
    "docs/tutorials/several_labels.md": ["photos"],
    "docs/tutorials/unknowns.md": ["photos"],
}
IMAGES = 10  # of each of two classes
# Pages whose backbones need ImageNet weights, which are not part of the project.
WITH_WEIGHTS = {"docs/how_to/experiments.md": ("mobilenet_v2", (160, 160))}
# Packages that a page needs and that are not always installed.
PACKAGES = {
    "docs/how_to/images_from_anywhere.md": "fsspec",
    "docs/how_to/other_tools.md": "optuna",
    "docs/start/index.md": "tf2onnx",
}


# Pages that fine-tune with the defaults, where the test asks only for names: two bright and dark
# classes need few steps.
FEW_STEPS = {"docs/start/index.md": 40}


class Cannot(NamedTuple):
    """The reason why a block cannot run in a test, and the error that it ends with."""

    reason: str
    error: type[Exception]


# Blocks that cannot run, by the page and the first line of the block. Each has to end with its
# error, so that an entry that is not needed fails.
CANNOT_RUN: dict[tuple[str, str], Cannot] = {
    (
        "docs/coming_from/autogluon.md",
        "from autogluon.multimodal import MultiModalPredictor",
    ): Cannot("AutoGluon is not installed", ModuleNotFoundError),
    ("docs/coming_from/fastai.md", "from fastai.metrics import accuracy"): Cannot(
        "fastai is not installed", ModuleNotFoundError
    ),
    ("docs/coming_from/scikeras.md", "import keras"): Cannot(
        "scikeras is not installed", ModuleNotFoundError
    ),
    ("docs/coming_from/timm.md", "# With the package of timm."): Cannot(
        "timm is not installed", ModuleNotFoundError
    ),
    (
        "docs/how_to/backbones.md",
        "list_backbones(\"keras_hub:*dino*\")  # ['keras_hub:dinov2_base', ...]",
    ): Cannot("keras-hub is not installed", InvalidParameterError),
    (
        "docs/how_to/backbones.md",
        "list_backbones(\"timm:*dinov2*\")  # ['timm:vit_base_patch14_dinov2.lvd142m', ...]",
    ): Cannot("timm is not installed", InvalidParameterError),
    ("docs/how_to/large_data.md", "import dask.array as da"): Cannot(
        "dask-ml is not installed", ImportError
    ),
    ("docs/tutorials/scaling_out.md", "from distributed import Client, LocalCluster"): Cannot(
        "Dask is not installed", ModuleNotFoundError
    ),
    ("docs/tutorials/scaling_out.md", "import ray"): Cannot(
        "Ray is not installed", ModuleNotFoundError
    ),
    ("docs/tutorials/scaling_out.md", "from joblibspark import register_spark"): Cannot(
        "Spark is not installed", ModuleNotFoundError
    ),
    ("docs/how_to/images_from_anywhere.md", "from datasets import load_dataset"): Cannot(
        "datasets is not installed", ImportError
    ),
    ("docs/how_to/images_from_anywhere.md", "from transferclf import load_image_table"): Cannot(
        "there is no such file", FileNotFoundError
    ),
}


class Block(NamedTuple):
    """A fenced block: its language, the line where its text begins, and its text."""

    language: str
    line: int
    text: str


def blocks_of(text):
    """Return all fenced blocks of a Markdown text."""
    found = re.finditer(r"^(```+)([^\n`]*)\n(.*?)^\1\s*$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(match[2].strip(), text.count("\n", 0, match.start()) + 2, match[3]) for match in found
    ]


def run_blocks(page, blocks, cannot_run=CANNOT_RUN):
    """Run the Python blocks of a page, and return their namespace."""
    names = {"__name__": "__main__"}
    for block in blocks:
        if block.language != "python":
            continue
        # The empty lines before the block give errors the line number of the page.
        code = compile("\n" * (block.line - 1) + block.text, page, "exec")
        cannot = cannot_run.get((page, block.text.splitlines()[0]))
        if cannot is None:
            exec(code, names)
        else:
            with pytest.raises(cannot.error):
                exec(code, names)
    return names


BLOCKS = {page: blocks_of(read(page)) for page in PAGES}
WITH_PYTHON = [
    pytest.param(page, marks=[pytest.mark.realdata] if page in WITH_WEIGHTS else [])
    for page, blocks in BLOCKS.items()
    if any(block.language == "python" for block in blocks)
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to an empty folder."""
    from matplotlib import pyplot as plt

    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


def draw(place, rng):
    """Draw bright and dark images in folders of their classes."""
    for label, low in (("cat", 0), ("dog", 120)):
        (place / label).mkdir(parents=True)
        for number in range(IMAGES):
            pixels = rng.integers(low, low + 136, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / label / f"{number}.jpg")


def needs_weights(backbone, size):
    from transferclf import get_backbone
    from transferclf.backbones.weights import pretrained_file

    if pretrained_file(get_backbone(backbone), size) is None:
        pytest.skip(f"no weights of {backbone} below KERAS_HOME, and none are downloaded by tests")


@pytest.mark.scripts
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page, folder, rng, capsys, monkeypatch):
    monkeypatch.setattr(recipe, "STEPS", FEW_STEPS.get(page, recipe.STEPS))
    if page in WITH_WEIGHTS:
        needs_weights(*WITH_WEIGHTS[page])
    if page in PACKAGES:
        pytest.importorskip(PACKAGES[page], reason=f"{PACKAGES[page]} is not installed")
    for name in FOLDERS.get(page, []):
        draw(folder / name, rng)
    prepare, check = PARTICULARS.get(page, (None, None))
    if prepare:
        prepare(folder)
    # Searches in several processes are tested by `test_processes.py`.
    with joblib.parallel_config("sequential"):
        names = run_blocks(page, BLOCKS[page])
    if check:
        check(names, folder, capsys.readouterr().out)


def a_new_image(folder):
    (folder / "photos/dog/0.jpg").rename(folder / "new.jpg")


def the_readme(names, folder, printed):
    photos, classifier = names["photos"], names["classifier"]
    assert classifier.score(photos.data, photos.target) == 1.0
    assert classifier.predict(["new.jpg"]).tolist() == ["dog"]
    check_thirty_heads(names["search"])
    assert load_model("pets.model").predict(["new.jpg"]).tolist() == ["dog"]


def check_thirty_heads(search):
    assert len(search.cv_results_["params"]) == 6
    assert search.n_splits_ == 5


def commands_of_the_start_page(folder):
    """Run its commands as a shell would, on two new photographs."""
    (folder / "new").mkdir()
    for label in ("cat", "dog"):
        (folder / f"photos/{label}/0.jpg").rename(folder / f"new/{label}.jpg")
    for block in BLOCKS["docs/start/index.md"]:
        if block.language == "bash":
            for line in block.text.splitlines():
                if line.startswith("transferclf"):
                    run_command(line)
    for name in ("predictions.csv", "tuned.csv"):
        check_names(folder / name)


def run_command(line):
    """Run a line with this package's command, and write its output to the file after ">"."""
    command, _, output = line.partition(" > ")
    _, *arguments = shlex.split(command, comments=True)
    is_old = "mix_stderr" in inspect.signature(CliRunner).parameters  # before click 8.2
    runner = CliRunner(**({"mix_stderr": False} if is_old else {}))
    done = runner.invoke(main, arguments)
    assert done.exit_code == 0, (line, done.stderr)
    if output:
        Path(output).write_text(done.stdout, encoding="utf-8")


def the_start_page(names, folder, printed):
    for name in ("predictions.csv", "tuned.csv"):
        check_names(folder / name)
    # ONNX Runtime's program prints the file, its class and the probability.
    named = re.findall(r"^new\S(\w+)\.jpg (\w+) [01]\.\d+$", printed, re.MULTILINE)
    assert named == [("cat", "cat"), ("dog", "dog")]
    check_thirty_heads(names["search"])
    assert any((folder / "features").rglob("*"))
    assert names["names"].tolist() == [["cat", "dog"], ["dog", "cat"]]
    assert load_model("tuned.model").predict(["new/cat.jpg"]).tolist() == ["cat"]


def check_names(file):
    """Check that a CSV file names the two new photographs."""
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    assert header == "file,label,probability"
    assert [row.split(",")[:2] for row in rows] == [
        [str(Path("new", "cat.jpg")), "cat"], [str(Path("new", "dog.jpg")), "dog"]
    ]  # fmt: skip


def a_leak_and_a_wrong_label(folder):
    leaked = (folder / "photos/train/cat/0.jpg").read_bytes()
    (folder / "photos/test/cat/0.jpg").write_bytes(leaked)
    (folder / "photos/train/dog/3.jpg").rename(folder / "photos/train/cat/wrong.jpg")


def the_audit(names, folder, printed):
    found = names["found"]
    assert len(found.leaks) == 1
    (wrong,) = found.label_errors.to_dict("records")
    assert Path(wrong["file"]).name == "wrong.jpg"
    assert (wrong["label"], wrong["suggested"]) == ("cat", "dog")
    assert "wrong.jpg (cat, train): rather dog" in printed


def the_experiments(names, folder, printed):
    table = names["table"]
    assert table["name"].tolist() == [*names["runs"]]
    assert not table["error"].any()
    assert table["mean_accuracy"].min() > 0.9
    assert printed.count("MobileNetV2") >= 2


def the_damaged_files(names, folder, printed):
    text = next(b.text for b in BLOCKS["docs/how_to/corrupt_files.md"] if b.language == "text")
    # How much of the file is left over depends on the encoder.
    left = re.compile(r"\d+ bytes not")
    assert left.sub("", text) in left.sub("", printed)
    assert printed.count("['cat/3.jpg' 'dog/5.jpg' 'dog/7.jpg']") == 2
    assert len(list((folder / "unreadable").rglob("*.jpg"))) == 3


def the_groups(names, folder, printed):
    page = read("docs/how_to/groups_and_leakage.md")
    assert f"# {names['too_good']} {names['honest']}" in page
    assert round(names["too_good"] * 100) == int(re.search(r"find (\d+) % right", page)[1])
    assert "['patient3' 'patient3'] 40" in printed


def the_needles(names, folder, printed):
    page = read("docs/how_to/crop_stretch_pad.md")
    assert f"# {names['scores']}" in page
    assert "[0.25 0.25 0.25 0.25]" in printed
    assert (folder / "network_input.png").exists()


def the_page(names, folder, printed):
    page = (folder / "sports.html").read_text(encoding="utf-8")
    assert "<title>Ten sports</title>" in page
    assert "dog" in page


def the_displays(names, folder, printed):
    text = read("docs/how_to/reports.md")
    learned, looked_at = map(
        int, re.findall(r"(\d+) to\s+learn from and (\d+) to look at", text)[0]
    )
    assert (len(names["X"]), len(names["X_test"])) == (learned, looked_at)
    assert names["evaluation"].accuracy > 0.85


def drawn_shapes(folder):
    """Draw the images of the first tutorial by its own block, as a reader of the next ones has."""
    exec(BLOCKS["docs/tutorials/folder_to_model.md"][0].text, {})


def shown_outputs(page):
    """Return the text blocks of a page that follow a Python block: they show its output."""
    blocks = BLOCKS[page]
    return [
        block
        for before, block in itertools.pairwise(blocks)
        if (before.language, block.language) == ("python", "text")
    ]


def check_outputs(page, printed, tolerance):
    """Check that a page shows what its blocks print, in their order.

    Numbers with a decimal point may differ by `tolerance`, and spaces in number.
    """
    for block in shown_outputs(page):
        parts = re.split(r"(\d+\.\d+)", " ".join(block.text.split()))
        pattern = "".join(
            r"(\d+\.\d+)" if i % 2 else re.escape(part).replace(r"\ ", r"\s+")
            for i, part in enumerate(parts)
        )
        found = re.search(pattern, printed)
        assert found, f"{page}, line {block.line}: not printed:\n{block.text}\nin\n{printed}"
        differences = [
            abs(float(shown) - float(one))
            for shown, one in zip(parts[1::2], found.groups(), strict=True)
        ]
        assert max(differences, default=0) <= tolerance, f"{page}, line {block.line}: {found[0]}"
        printed = printed[found.end() :]


def the_first_tutorial(names, folder, printed):
    assert len(shown_outputs("docs/tutorials/folder_to_model.md")) == 7
    check_outputs("docs/tutorials/folder_to_model.md", printed, 0.02)
    assert (folder / "worst.png").exists()
    header, *lines = (folder / "predictions.csv").read_text().splitlines()
    assert header == "file,label,probability,label_2,probability_2"
    assert len(lines) == 3


def the_choice(names, folder, printed):
    assert len(shown_outputs("docs/tutorials/choosing_a_backbone.md")) == 3
    check_outputs("docs/tutorials/choosing_a_backbone.md", printed, 0.02)


def the_few(names, folder, printed):
    assert len(shown_outputs("docs/tutorials/few_and_imbalanced.md")) == 6
    check_outputs("docs/tutorials/few_and_imbalanced.md", printed, 0.03)
    assert names["measured"] < names["wrong"].mean() - 0.1


def the_fine_tuning(names, folder, printed):
    # Hundreds of steps amplify the rounding of a processor's kernels.
    assert len(shown_outputs("docs/tutorials/first_fine_tuning.md")) == 5
    check_outputs("docs/tutorials/first_fine_tuning.md", printed, 0.15)
    X, y = names["test"].data, names["test"].target
    assert names["tuned"].score(X, y) > names["probe"].score(X, y) + 0.05
    assert names["tuned"].soup_ > 0


def the_parts(names, folder, printed):
    rows = np.load(folder / "rows_0.npy")
    np.testing.assert_array_equal(rows, names["features"][::4])


def the_names(names, folder, printed):
    """Check what the blocks of this package have made on a page for users of another library."""
    classifier = names["classifier"]
    assert classifier.classes_.tolist() == ["cat", "dog"]
    assert classifier.predict(["photos/dog/0.jpg"]).tolist() == ["dog"]
    assert load_model(folder / "pets.model").predict(["photos/cat/0.jpg"]).tolist() == ["cat"]


def the_keras_script(names, folder, printed):
    the_names(names, folder, printed)
    assert names["names"] == names["classifier"].classes_.tolist()
    trained = {layer.name for layer in names["base"].layers if layer.trainable}
    assert trained == {"Conv_1", "Conv_1_bn", "out_relu"}
    assert keras.saving.load_model(folder / "pets.keras").output_shape == (None, 2)


def the_search(names, folder, printed):
    assert len(names["search"].cv_results_["params"]) == 4
    assert names["search"].score(names["photos"].data, names["photos"].target) == 1.0


def the_features(names, folder, printed):
    assert names["classifier"].predict(["photos/dog/0.jpg"]).tolist() == ["dog"]
    assert len(names["features_of_tiny"]) == len(names["photos"].data)
    assert names["theirs"].score(names["rows"], names["y"]) == 1.0


def the_labels(names, folder, printed):
    assert names["classifier"].classes_.tolist() == names["table"].target_names
    assert names["classifier"].score(names["bunch"].data, names["y"]) == 1.0
    assert names["found"]["test_f1_micro"].min() > 0.7


def the_unknowns(names, folder, printed):
    assert "20 unknown ones" in printed
    found = names["evaluate"](names["rejector"], names["X_all"], names["y_all"])
    assert found.auroc > 0.95
    assert (folder / "unknowns.png").exists()


# By page: a preparation beside its class folders, and a check after its last block.
PARTICULARS = {
    "README.md": (a_new_image, the_readme),
    "docs/start/index.md": (commands_of_the_start_page, the_start_page),
    "docs/coming_from/autogluon.md": (None, the_names),
    "docs/coming_from/fastai.md": (None, the_names),
    "docs/coming_from/keras.md": (None, the_keras_script),
    "docs/coming_from/scikeras.md": (None, the_search),
    "docs/coming_from/timm.md": (None, the_features),
    "docs/tutorials/auditing.md": (a_leak_and_a_wrong_label, the_audit),
    "docs/how_to/corrupt_files.md": (None, the_damaged_files),
    "docs/how_to/crop_stretch_pad.md": (None, the_needles),
    "docs/how_to/experiments.md": (None, the_experiments),
    "docs/how_to/groups_and_leakage.md": (None, the_groups),
    "docs/how_to/report.md": (None, the_page),
    "docs/how_to/reports.md": (None, the_displays),
    "docs/tutorials/choosing_a_backbone.md": (drawn_shapes, the_choice),
    "docs/tutorials/few_and_imbalanced.md": (drawn_shapes, the_few),
    "docs/tutorials/first_fine_tuning.md": (None, the_fine_tuning),
    "docs/tutorials/folder_to_model.md": (None, the_first_tutorial),
    "docs/tutorials/scaling_out.md": (None, the_parts),
    "docs/tutorials/several_labels.md": (None, the_labels),
    "docs/tutorials/unknowns.md": (None, the_unknowns),
}


@pytest.mark.parametrize("page", BLOCKS)
def test_every_block_has_a_known_fence(page):
    text = read(page)
    assert {block.language for block in BLOCKS[page]} <= LANGUAGES | DIRECTIVES
    assert text.count("```") == 2 * len(BLOCKS[page])
    assert "~~~" not in text


def test_every_entry_about_a_page_is_needed():
    pages = [page.values[0] for page in WITH_PYTHON]
    assert {*FOLDERS, *WITH_WEIGHTS, *PARTICULARS, *PACKAGES} <= {*pages}
    for page, first in CANNOT_RUN:
        assert first in [block.text.splitlines()[0] for block in BLOCKS[page]]
    for page, (backbone, _) in WITH_WEIGHTS.items():
        assert any(f'"{backbone}"' in block.text for block in BLOCKS[page])


def test_the_error_of_an_undefined_name_has_its_line():
    blocks = blocks_of("# Page\n\n```bash\nfalse\n```\n\n```python\nx = 1\ny = x + z\n```\n")
    assert [block.language for block in blocks] == ["bash", "python"]
    with pytest.raises(NameError, match="'z'") as raised:
        run_blocks("page.md", blocks)
    assert (str(raised.traceback[-1].path), raised.traceback[-1].lineno + 1) == ("page.md", 9)


def test_blocks_share_a_namespace():
    blocks = blocks_of("```python\nx = [1]\n```\n\ntext\n\n```python\nx.append(2)\n```\n")
    assert run_blocks("page.md", blocks)["x"] == [1, 2]


def test_a_block_listed_as_failing_has_to_fail():
    cannot = {("page.md", "import nowhere_to_be_found"): Cannot("not there", ImportError)}
    excused = blocks_of("```python\nimport nowhere_to_be_found\n```\n\n```python\nx = 3\n```\n")
    assert run_blocks("page.md", excused, cannot)["x"] == 3
    cannot = {("page.md", "import json"): Cannot("not needed", ImportError)}
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        run_blocks("page.md", blocks_of("```python\nimport json\n```\n"), cannot)


def test_shown_output_is_compared(monkeypatch):
    page = "```python\nprint(f'{x:.2f} of 3')\n```\n\n```text\n0.91 of 3\n```\n"
    monkeypatch.setitem(BLOCKS, "page.md", blocks_of(page))
    check_outputs("page.md", "before\n0.92  of 3\n", 0.02)
    with pytest.raises(AssertionError, match=r"line 6: 0.95 of 3"):
        check_outputs("page.md", "0.95 of 3\n", 0.02)
    with pytest.raises(AssertionError, match="not printed"):
        check_outputs("page.md", "0.91 of 4\n", 0.02)
