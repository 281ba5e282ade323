"""The scripts of the gallery run offline, draw figures and print what their texts promise."""

import ast
import re
import runpy
import socket
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

GALLERY = Path(__file__).resolve().parents[1] / "examples" / "gallery"
SCRIPTS = {path.stem.removeprefix("plot_"): path for path in sorted(GALLERY.glob("plot_*.py"))}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_teaches_offline(name):
    text = SCRIPTS[name].read_text(encoding="utf-8")
    title, line, empty, *summary = ast.get_docstring(ast.parse(text)).splitlines()
    assert line == "=" * len(title)
    assert not empty
    assert " ".join(summary).endswith(".")
    cells = text.split("\n# %%\n")[1:]
    assert len(cells) >= 3
    assert all(cell.startswith("# ") for cell in cells)
    assert "plt.show()" in text
    # Nothing is downloaded: no address, no data set of the net, and the bundled network only.
    assert not re.search(r"://|\burllib|\brequests\b|fetch_|subprocess", text)
    assert '"tiny"' in text
    assert not re.search(r"mobilenet|efficientnet|resnet|timm|hub", text)
    # Nothing depends on where the script is, and nothing is written.
    assert not re.search(r"""["'](/|~|\.\.|[A-Za-z]:[\\/])|__file__|savefig|open\(""", text)


def test_the_scripts_have_different_titles():
    titles = [path.read_text(encoding="utf-8").splitlines()[1] for path in SCRIPTS.values()]
    assert len(set(titles)) == len(titles) >= 13


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a script in an empty folder without a network; return its text, numbers and figures."""

    def refuse(*arguments):
        raise OSError("a script of the gallery opened a connection")

    def show():
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.canvas.draw()
            figures.append(np.asarray(figure.canvas.buffer_rgba())[..., :3])
        plt.close("all")

    figures = []
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(plt, "show", show)
    monkeypatch.chdir(tmp_path)

    def of(name):
        capsys.readouterr()
        runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
        assert plt.get_fignums() == []  # all figures are shown
        shown = capsys.readouterr().out
        assert list(tmp_path.iterdir()) == []
        return SimpleNamespace(shown=shown, figures=figures)

    yield of
    plt.close("all")


def numbers(found, pattern):
    """Return the numbers that a pattern finds in the printed lines, in their order."""
    matches = re.findall(pattern, found.shown)
    assert matches, found.shown
    return [float(number) for match in matches for number in np.atleast_1d(match)]


def check_first_classifier(found):
    assert numbers(found, r"new images: ([\d.]+)")[0] > 0.9


def check_one_pass(found):
    assert numbers(found, r"13 fits: (\d+) images") == [600]
    assert numbers(found, r"until now: (\d+)") == [800]
    assert numbers(found, r"once more: (\d+)") == [800]
    assert numbers(found, r"new images: ([\d.]+)")[0] > 0.9
    # The clock of a busy machine decides nothing here; the printed seconds only have to be there.
    assert len(numbers(found, r"([\d.]+) CPU seconds")) == 2


def check_features_on_a_plane(found):
    by_pixels, by_features = numbers(found, r"by \w+: accuracy ([\d.]+)")
    assert by_pixels < 0.8
    assert by_features > by_pixels + 0.15


def check_fine_tuning(found):
    head, every_layer = numbers(found, r"accuracy ([\d.]+)")
    assert head < 0.9
    assert every_layer > head + 0.08


def check_several_labels(found):
    (precision,) = numbers(found, r"precision ([\d.]+)")
    (all_right,) = numbers(found, r"all labels right ([\d.]+)")
    assert precision > 0.95
    assert 0.65 < all_right < precision


def check_numbers(found):
    by_degrees, by_two_numbers = numbers(found, r"median error ([\d.]+)")
    assert by_two_numbers < by_degrees / 2


def check_unknown_images(found):
    assert numbers(found, r"kept: ([\d.]+)")[0] > 0.9
    assert numbers(found, r"named right: ([\d.]+)")[0] > 0.97
    sure_8, rejected_8, sure_piece, rejected_piece = numbers(
        found, r"([\d.]+) named with more than 90 %, ([\d.]+) rejected"
    )
    assert min(sure_8, sure_piece) > 0.3
    assert rejected_piece >= rejected_8 > 0.8


def check_imbalanced_classes(found):
    plain, weighted, repeated = numbers(found, r"balanced accuracy ([\d.]+)")
    assert min(weighted, repeated) > plain + 0.02
    plain, weighted, repeated = numbers(found, r"of the eights ([\d.]+)")
    assert min(weighted, repeated) > plain + 0.1


def check_audit(found):
    suspects, n_right, n_swapped = numbers(
        found, r"first (\d+) suspects, (\d+) of (\d+) labels were swapped"
    )
    assert n_swapped == 20
    assert n_right >= 0.6 * suspects
    at_90, at_97 = numbers(found, r"named at [\d.]+: (\d+)")
    same, brighter = numbers(found, r"of 10 \D*: (\d+) are among these")
    assert at_90 > at_97 >= same + brighter
    assert same == 10
    assert 1 <= brighter < 10
    assert "likely label errors" in found.shown


def check_heat_maps(found):
    assert numbers(found, r"with the same mark: ([\d.]+)")[0] > 0.97
    without, on_discs = numbers(found, r"new images with(?:out)? \D*: ([\d.]+)")[-2:]
    assert without < 0.9
    assert on_discs < without
    assert numbers(found, r"learned without the mark: accuracy ([\d.]+)")[0] > without
    marked, honest = numbers(found, r"([\d.]+) of the heat is at the mark")
    assert marked > 0.5
    assert honest < marked - 0.2


def check_network_input(found):
    crop, stretch, pad = numbers(found, r"accuracy ([\d.]+)")
    assert min(stretch, pad) > crop + 0.05
    assert found.shown.count("the warning: ") == 1
    assert "leaves out a large part" in found.shown


def check_features_for_scikit_learn(found):
    assert set(numbers(found, r"until now: (\d+)")) == {900}
    pairs = np.reshape(numbers(found, r"([\d.]+) on features, ([\d.]+) on pixels"), (-1, 2))
    assert len(pairs) == 4
    assert (pairs[1:, 0] > pairs[1:, 1] + 0.08).all()  # the first are nearest neighbours
    assert numbers(found, r"stack: accuracy ([\d.]+)")[0] > pairs[:, 0].mean()


def check_threshold(found):
    missed, alarms, cost, tuned_missed, tuned_alarms, tuned_cost = numbers(
        found, r"(\d+) missed, (\d+) false alarms, cost (\d+)"
    )
    assert tuned_cost < 0.8 * cost
    assert tuned_missed < missed
    assert tuned_alarms > alarms


def test_each_script_has_a_check():
    checks = {name.removeprefix("check_") for name in globals() if name.startswith("check_")}
    assert checks == {*SCRIPTS}


@pytest.mark.scripts
@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_and_draws(run, name):
    found = run(name)
    assert found.figures
    for figure in found.figures:
        assert min(figure.shape[:2]) >= 100
        assert figure.std() > 5  # not an empty page
    globals()[f"check_{name}"](found)
