"""Tests of thirty hostile names of classes and files in all texts, tables, figures and pages."""

import base64
import csv
import io
import os
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier

from transferclf.exceptions import ImageError
from transferclf.reports import (
    ClassBalanceDisplay,
    EmbeddingDisplay,
    Evaluation,
    GradCAMDisplay,
    ImageGridDisplay,
    TrainingHistoryDisplay,
    audit,
    report,
)
from transferclf.reports.names import short_name
from transferclf.reports.page.rendering import NAME_WIDTH
from transferclf.reports.tables import rows_of, table_of

mpl.use("Agg")

# matplotlib warns of letters that the font lacks.
pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from")

NAMES = [
    "<b>bold</b>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(2)>',
    "</td></tr></table><script>alert(3)</script>",
    "' onmouseover='alert(4)",
    "&lt;b&gt; &amp; &#60;i&#62;",
    "]]><!-- ",
    "--><iframe src=javascript:alert(5)>",
    "{{ 7 * 7 }}",
    "{0} {name!r}",
    "%s %d %(name)s %",
    "$\\frac{1}{",
    "$x_1$ and $y^2$",
    "one $ alone",
    "\\$escaped\\$ \\",
    "_hidden",
    "=1+1",
    "=HYPERLINK(\"http://x.example\",\"y\")",
    "+1;-1,@sum",
    "\ttab first",
    "two\nlines\r\nand three",
    "\u202ereversed\u202c",
    "\u2066isolated\u200f",
    "\u05e9\u05dc\u05d5\u05dd 12",
    "nul \x00 and bell \x07 and \x1b[31mred",
    "lone \ud83d surrogate",
    "byte \udcff of a file",
    "",
    "   ",
    "very long " * 500 + "name",
    "a\u0301\u0302\u0303\u0304" * 5,
    "\U0001f3c0 \u65e5\u672c\u8a9e",
    "../../etc/passwd",
    "nan",
    "None",
]  # fmt: skip

Y = np.repeat(np.array(NAMES, dtype=object), 2)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    mpl.pyplot.close("all")


def shown(texts):
    """Return texts as drawn: matplotlib draws an escaped dollar sign without its backslash."""
    return [text.get_text().replace(r"\$", "$") for text in texts]


def drawn_without_formulas(figure):
    figure.canvas.draw()
    for text in figure.findobj(mpl.text.Text):
        assert not mpl.cbook.is_math_text(text.get_text()) or "mathdefault" in text.get_text()


def test_the_thirty_names_are_different():
    assert len(NAMES) == len(set(NAMES)) >= 30


def test_balance_shows_names_as_they_are():
    display = ClassBalanceDisplay.from_targets({"=train": Y, "$te$t": Y}, classes=NAMES)
    drawn_without_formulas(display.figure_)
    labels = shown([*display.ax_.get_yticklabels(), *display.ax_.get_xticklabels()])
    for name in NAMES:
        assert short_name(name) in labels
    assert shown(display.ax_.get_legend().get_texts()) == ["=train", "$te$t"]


def test_embedding_shows_names_as_they_are(rng):
    display = EmbeddingDisplay.from_features(rng.random((len(Y), 3)), Y, method="pca")
    drawn_without_formulas(display.figure_)
    legend = shown(display.ax_.get_legend().get_texts())
    assert sorted(legend) == sorted(map(short_name, NAMES))


def test_history_shows_names_as_they_are():
    runs = {name: {"loss": [2.0, 1.0], "learning_rate": [0.1]} for name in NAMES}
    display = TrainingHistoryDisplay.from_histories(runs, metrics="loss")
    drawn_without_formulas(display.figure_)
    assert shown(display.axes_[-1].get_legend().get_texts())[: len(NAMES)] == [
        short_name(name) for name in NAMES
    ]


def test_grid_and_heat_maps_show_names_as_they_are(rng):
    images = rng.integers(0, 256, (len(NAMES), 8, 8, 3), dtype=np.uint8)
    y = np.array(NAMES, dtype=object)
    # Without a layout, which takes seconds to compute for so many axes.
    (whole,), cells = (mpl.pyplot.subplots(*n, squeeze=False)[1].flat for n in ((1, 1), (5, 7)))
    grid = ImageGridDisplay.from_predictions(
        images, y, np.roll(y, 1), classes=y, kind="random", n_images=len(NAMES), ax=whole
    )
    drawn_without_formulas(grid.figure_)
    titles = [axes.get_title(loc="left").replace(r"\$", "$") for axes in grid.axes_]
    assert titles == [
        f"true {short_name(one, 14)}\npred. {short_name(other, 14)}"
        for one, other in zip(y, np.roll(y, 1), strict=True)
    ]
    maps = GradCAMDisplay(
        images, np.zeros((len(NAMES), 2, 2)), classes=y, probabilities=np.ones(len(y)), layer="$l$"
    ).plot(ax=list(cells)[: len(NAMES)])
    drawn_without_formulas(maps.figure_)
    titles = [axes.get_title().replace(r"\$", "$") for axes in maps.axes_]
    assert titles == [f"{short_name(name)}\n100%" for name in y]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_texts_can_be_printed_and_keep_their_lines(encoding, monkeypatch, rng):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    images = rng.integers(0, 256, (len(Y), 8, 8, 3), dtype=np.uint8)
    found = audit(images, Y, splits=Y)
    evaluation = Evaluation.from_predictions(Y, np.roll(Y, 2), classes=NAMES)
    monkeypatch.setattr(sys, "stdout", stream)
    for text in (str(found), str(evaluation)):
        print(text)  # raises if the encoding lacks a letter
        stream.flush()
        for line in text.split("\n"):
            assert line.isprintable(), line
            assert len(line) < 400
    assert any("<b>bold</b>" in line for line in str(evaluation).split("\n"))
    assert "missing_classes=35" in repr(found)


def test_tables_hold_the_names_and_read_back_from_csv(rng):
    images = rng.integers(0, 256, (len(Y), 8, 8, 3), dtype=np.uint8)
    found = audit(images, Y, splits=["train", "test"] * (len(Y) // 2 - 1) + ["train"] * 2)
    assert rows_of(found.missing_classes)[0]["label"] == NAMES[-1]
    table = table_of([{"label": name, "count": 1} for name in NAMES], ["label", "count"])
    assert [row["label"] for row in rows_of(table)] == NAMES
    # Files keep every name unchanged, even if a spreadsheet would read it as a formula: other
    # programs have to find it again.
    content = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    back = list(csv.reader(io.StringIO(content, newline="")))
    assert [row[0] for row in back] == ["label", *NAMES]


class Page(HTMLParser):
    """Collect the tags, the attributes and the texts of names of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.names, self.inside = set(), [], [], []
        self.feed(html)
        self.close()
        assert self.rawdata == ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self.inside.append(tag)
        if tag == "bdi":
            self.names.append("")

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if self.inside and self.inside[-1] == "bdi":
            self.names[-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"comment {data!r}")


TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "nav", "ol",
    "ul", "li", "a", "main", "section", "dl", "dt", "dd", "div", "span", "table", "caption",
    "thead", "tbody", "details", "summary", "tr", "th", "td", "bdi", "img",
    "figure", "figcaption", "b", "br", "code",
}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    X = np.random.default_rng(0).integers(0, 256, (len(Y), 8, 8, 3), dtype=np.uint8)
    classifier = DummyClassifier(strategy="stratified", random_state=0).fit(X, Y)
    path = folder / "page.html"
    report(classifier, X, Y, path, audit=True, n_images=len(Y), title=NAMES[3])
    return path.read_bytes()


def test_the_page_has_names_as_text_alone(page):
    found = Page(page.decode("utf-8"))
    assert found.inside == []
    assert found.tags <= TAGS
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    addresses = [value for name, value in found.attributes if name in ("href", "src")]
    assert addresses
    assert all(re.match(r"(#|data:image/)", value) for value in addresses)
    for name in NAMES:
        assert (short_name(name, NAME_WIDTH) or "(empty)") in found.names


def test_drawings_of_the_page_are_valid(page):
    drawings = re.findall(rb"data:image/svg\+xml;base64,([^\"]+)", page)
    assert drawings
    for drawing in drawings:
        tree = ElementTree.fromstring(base64.b64decode(drawing))
        kinds = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not kinds & {"script", "foreignObject", "iframe", "img", "b"}
        assert not [key for one in tree.iter() for key in one.attrib if key.startswith("on")]


def files_named(folder, rng):
    """Write a file for each name that this system allows."""
    paths = []
    for name in NAMES:
        path = os.path.join(folder, f"{name[:60]}.png")
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        try:
            with open(path, "xb") as file:
                Image.fromarray(pixels).save(file, "PNG")
        except (OSError, ValueError):
            continue
        paths.append(path)
    return paths


def test_files_with_hostile_names_are_named(tmp_path, rng):
    paths = files_named(str(tmp_path), rng)
    assert len(paths) >= 25
    broken = paths[::5]
    for path in broken:
        with open(path, "wb") as file:
            file.write(b"no image")
    found = audit(paths, [os.path.basename(path) for path in paths])
    assert [row["file"] for row in rows_of(found.unreadable)] == broken
    assert all(line.isprintable() for line in str(found).split("\n"))
    with pytest.raises(ImageError) as caught:
        audit(paths[0])
    assert str(caught.value).encode("utf-8")
