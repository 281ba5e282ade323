"""Tests of the page about a classifier: its content, its completeness, and no active content."""

import base64
import http.server
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline

from transferclf import ConvNet, TransferClassifier, load_image_folder
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import Evaluation, report
from transferclf.reports.page.rendering import environment, picture, rendered

matplotlib.use("Agg")

HOSTILE = [
    "<script>document.title='hacked'</script>",
    '"><img src=x onerror="document.title=\'hacked\'">',
    "'&lt;b&amp;\n\ttwo lines\x00\x1b[31m\ud800",
    "\u202egnirts desrever \u05e2\u05d1\u05e8\u05d9\u05ea",
    "$x_{1}$ $\\frac{",
    "a very long name " * 20,
    "</style></title></table><svg onload=\"document.title='hacked'\">",
    "日本語のクラス 🏀",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Collect the elements of a page with their attributes and texts; check that all are closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.headings = [], [], []
        self.texts = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append((int(self.open[-1][1]), data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def written(folder, estimator, X, y, **options):
    path = folder / "page.html"
    report(estimator, X, y, path, **({"audit": False} | options))
    assert [file.name for file in folder.iterdir() if file.is_file()] == ["page.html"]
    return path


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images, data.target


@pytest.fixture(scope="module")
def hostile(digits, tmp_path_factory):
    """A page about files and classes with hostile names."""
    images, labels = digits
    chosen = np.flatnonzero(labels < len(HOSTILE))[:120]
    folder = tmp_path_factory.mktemp("x' onload='<b>&amp;")
    paths = []
    for index in chosen:
        path = folder / f'<img src=x onerror=alert({index})>&\u202e".png'
        Image.fromarray((images[index] * 15.9).astype(np.uint8)).resize((96, 96)).save(path)
        paths.append(str(path))
    shutil.copy(paths[-2], paths[-1])
    names = np.array(HOSTILE, dtype=object)[labels[chosen]]
    classifier = TransferClassifier("tiny", image_size=64, l2=10.0, cache="memory")
    classifier.fit(paths[:50], names[:50])
    target = tmp_path_factory.mktemp("page")
    return written(
        target,
        classifier,
        paths[60:],
        names[60:],
        title="<b>Digits</b> & 'more'",
        n_images=4,
        audit=True,
    )


@pytest.fixture(scope="module")
def outline(hostile):
    return Outline(hostile.read_text("utf-8"))


@pytest.mark.slow
def test_the_page_loads_no_other_files(outline):
    policy = next(m for m in outline.all("meta") if m.get("http-equiv"))
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    tags = {tag for tag, _ in outline.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "svg", "form", "base", "b:"}
    for _, attributes in outline.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/").startswith("data:image/")


def test_the_stylesheet_loads_no_files(hostile):
    style = re.search("<style>(.*?)</style>", hostile.read_text("utf-8"), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "<" not in style


def test_hostile_names_are_text(outline):
    assert "<script>document.title='hacked'</script>" in outline.text
    assert "$x_{1}$ $\\frac{" in outline.text
    assert "日本語のクラス 🏀" in outline.text
    assert "<b>Digits</b> & 'more'" in outline.text
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\ud800-\udfff]", outline.text)
    assert "a very long name " * 5 not in outline.text


def test_drawings_have_no_script(outline):
    drawings = [
        base64.b64decode(image["src"].partition(",")[2]).decode()
        for image in outline.all("img")
        if image["src"].startswith("data:image/svg+xml;base64,")
    ]
    assert len(drawings) >= 3
    for drawing in drawings:
        assert not re.search(r"<script|\son\w+=|<foreignObject|hacked'<", drawing)


def test_the_page_has_the_audit(outline):
    assert int(re.search(r"exact copies (\d+)", outline.text)[1]) == 2
    assert any("one of 2 images alike" in image["alt"] for image in outline.all("img"))
    assert "96 x 96 RGB" in outline.text or "96 x 96 L" in outline.text


def test_headings_are_in_order_and_links_lead_to_sections(outline):
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [section["id"] for section in outline.all("section")]
    assert len(ids) == len(set(ids)) >= 10
    assert [link["href"] for link in outline.all("a")] == [f"#{name}" for name in ids]


def test_the_page_is_accessible_to_screen_readers(outline):
    assert outline.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in outline.all("meta"))
    assert all(len(image["alt"]) > 15 for image in outline.all("img"))
    n_tables = len(outline.all("table"))
    assert n_tables >= 4
    assert len(outline.all("caption")) == n_tables
    assert all(head["scope"] in ("col", "row") for head in outline.all("th"))


def test_images_can_be_decoded(outline):
    kinds = set()
    for image in outline.all("img"):
        kind, content = re.fullmatch("data:(.*?);base64,(.*)", image["src"]).groups()
        kinds.add(kind)
        if kind != "image/svg+xml":
            Image.open(io.BytesIO(base64.b64decode(content))).load()
    assert "image/jpeg" in kinds


def test_the_numbers_equal_those_of_evaluate(digits, tmp_path):
    X, y = digits[0].reshape(-1, 64), digits[1]
    classifier = LogisticRegression(C=1e-4, max_iter=500).fit(X[:300], y[:300])
    text = Outline(written(tmp_path, classifier, X[300:], y[300:]).read_text()).text
    expected = Evaluation.from_predictions(y[300:], y_proba=classifier.predict_proba(X[300:]))
    assert f"accuracy {expected.accuracy:.3f}" in text
    assert f"top-3 accuracy {expected.top_k[3]:.3f}" in text
    assert f"log loss {expected.loss:.3f}" in text
    worst = expected.confused[0]
    assert f"{worst['true']} {worst['predicted']} {worst['count']} {worst['share']:.0%}" in text
    for row in expected.confusion_matrix[:3]:
        assert " ".join(str(count) for count in row if count) in text


def test_the_page_gives_a_reason_for_missing_parts(digits, tmp_path):
    X, y = digits[0].reshape(-1, 64), digits[1]
    classifier = make_pipeline(DummyClassifier()).fit(X[:50], y[:50])
    text = Outline(written(tmp_path, classifier, X[:20], y[:20]).read_text()).text
    assert "Left out: a heat map needs a TransferClassifier, and Pipeline is or has none." in text
    assert "X is no images, so that none can be shown." in text


def test_classifiers_without_probabilities(digits, tmp_path):
    X, y = digits[0].reshape(-1, 64), digits[1]
    classifier = RidgeClassifier().fit(X[:300], y[:300])
    text = Outline(written(tmp_path, classifier, X[300:400], y[300:400]).read_text()).text
    assert "Left out: RidgeClassifier gives no probabilities." in text


@pytest.mark.slow
def test_images_are_predicted_once(digits, tmp_path, monkeypatch):
    X, y = digits
    classifier = TransferClassifier("tiny", image_size=32, l2=0.1, pixel_range=(0, 16))
    classifier.fit(X[:30], y[:30])
    before, seen = pyplot.get_fignums(), []
    original = TransferClassifier._scores
    monkeypatch.setattr(
        TransferClassifier, "_scores", lambda self, s: seen.append(len(s)) or original(self, s)
    )
    written(tmp_path, classifier, X[60:80], y[60:80], n_images=3)
    assert sum(seen) == 20
    assert pyplot.get_fignums() == before  # report closes its figures


def test_a_network_from_scratch_and_two_classes(rng, tmp_path):
    X, y = rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8), np.arange(24) % 2 == 0
    network = ConvNet(filters=(4,), dense_units=())
    classifier = TransferClassifier(network, image_size=16, epochs=2, random_state=0).fit(X, y)
    text = Outline(written(tmp_path, classifier, X, y).read_text()).text
    assert "Grad-CAM of the layer block1_pool" in text
    assert "epochs 2" in text


def test_a_network_without_a_map_gets_a_page(rng, tmp_path):
    X, y = rng.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8), np.arange(12) % 3
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Flatten()(inputs))
    classifier = TransferClassifier(network, preprocessing="none", l2=0.1).fit(X, y)
    text = Outline(written(tmp_path, classifier, X, y).read_text()).text
    assert "Left out: Grad-CAM needs a layer with a map" in text


@pytest.mark.parametrize("n_images", [1, 4])
def test_few_images(digits, tmp_path, n_images):
    X, y = digits
    classifier = TransferClassifier("tiny", image_size=32, l2=0.1, pixel_range=(0, 16))
    classifier.fit(X[:30], y[:30])
    text = Outline(written(tmp_path, classifier, X[:n_images], y[:n_images]).read_text()).text
    assert "cannot be arranged" in text


def test_many_classes_have_no_matrix(tmp_path):
    X, y = np.arange(140.0)[:, None] % 70, np.arange(140) % 70
    classifier = DummyClassifier().fit(X, y)
    page = Outline(written(tmp_path, classifier, X, y).read_text())
    assert "The matrix of 70 classes would be too large to be read" in page.text
    assert not [table for table in page.all("table") if table.get("class") == "matrix"]


@pytest.fixture
def dummy():
    return DummyClassifier().fit([[0], [1]], ["a", "b"])


def test_errors_are_raised_before_any_work(dummy, tmp_path):
    X, y, path = [[0], [1]], ["a", "b"], tmp_path / "page.html"
    with pytest.raises(FileNotFoundError, match="must be in a folder that is there"):
        report(dummy, X, y, tmp_path / "none" / "page.html")
    with pytest.raises(IsADirectoryError, match="must be a file"):
        report(dummy, X, y, tmp_path)
    with pytest.raises(InvalidParameterError, match="title must be a text or None"):
        report(dummy, X, y, path, title=3)
    with pytest.raises(InvalidParameterError, match="n_images"):
        report(dummy, X, y, path, n_images=0)
    with pytest.raises(InvalidParameterError, match="audit must be True or False"):
        report(dummy, X, y, path, audit="yes")
    with pytest.raises(InvalidParameterError, match="displays must be None or a dict"):
        report(dummy, X, y, path, displays={"Mine": 3})
    with pytest.raises(ValueError, match="y"):
        report(dummy, X, ["a"], path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["matplotlib", "jinja2", "pandas"])
def test_a_missing_library_is_named_before_any_work(library, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    told = rf"{library}, which is not installed.*pip install jinja2 matplotlib pandas"
    with pytest.raises(ImportError, match=told):
        report(None, [[0], [1]], ["a", "b"], tmp_path / "page.html")


def test_only_a_complete_page_replaces_an_older_one(dummy, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("older")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            report(dummy, [[0], [1]], ["a", "b"], path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
    report(dummy, [[0], [1]], ["a", "b"], path)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")


TEMPLATES = sorted(files("transferclf.reports.page").joinpath("templates").iterdir(), key=str)


def test_no_template_turns_escaping_off():
    assert len(TEMPLATES) > 10
    assert environment().autoescape is True
    package = Path(str(files("transferclf.reports.page")))
    code = [path.read_text("utf-8") for path in package.glob("*.py")]
    for text in [*code, *(template.read_text("utf-8") for template in TEMPLATES)]:
        assert not re.search(r"\|\s*safe\b|Markup|autoescape false|__html__|xmlattr|tojson", text)
    for template in TEMPLATES:
        text = template.read_text("utf-8")
        # Escaping protects the value of an attribute only if it is in quotes.
        assert not re.search(r"=\s*\{\{", text), template
        for tag in re.findall(r"<script|<iframe|\son\w+=", text):
            raise AssertionError(f"{tag} in {template}")


ATTACK = "</td>\"'><img src=x onerror=alert(1)>&lt;{{ 7 * 7 }}"


class Hostile(dict):
    """A dict with an attack for every key, as values of a template."""

    def __missing__(self, name):
        return ATTACK


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("summary.html", {"numbers": [(ATTACK, ATTACK)]}),
        ("classes.html", {"rows": [Hostile(share=0.5)]}),
        ("balance.html", {"rows": [Hostile(share=0.5)]}),
        ("labels.html", {"rows": [Hostile(share=0.5)]}),
        ("outputs.html", {"rows": [Hostile()]}),
        ("label_errors.html", {"kinds": [Hostile(images=[Hostile(picture=Hostile())])]}),
        ("number_errors.html", {"images": [Hostile(picture=Hostile())]}),
        (
            "confusion.html",
            {"too_large": "", "matrix": [Hostile(cells=[Hostile()])], "pairs": [Hostile()]},
        ),
        ("confusion.html", {"too_large": ATTACK, "pairs": []}),
        ("errors.html", {"kinds": [Hostile(images=[Hostile(picture=Hostile())])]}),
        (
            "gradcam.html",
            {"layer": ATTACK, "images": [{"pictures": [Hostile()], "maps": [(ATTACK, ATTACK)]}]},
        ),
        ("drawings.html", {"text": ATTACK, "drawings": [Hostile(), Hostile(width=3)]}),
        (
            "audit.html",
            {
                "counts": [(ATTACK, ATTACK)],
                "findings": [
                    Hostile(kind=kind, rows=[Hostile(pictures=[Hostile()])])
                    for kind in ("doubtful", "pair", "odd", "copies")
                ],
                "sizes": [Hostile()],
            },
        ),
        ("parameters.html", Hostile(changed=[(ATTACK, ATTACK)], defaults=[(ATTACK, ATTACK)])),
        ("versions.html", {"rows": [(ATTACK, ATTACK)]}),
    ],
)
def test_every_value_of_every_template_is_escaped(template, content):
    sections = [{"id": "a", "heading": ATTACK, "template": template, "content": content}]
    html = rendered("page.html", title=ATTACK, subtitle=ATTACK, sections=sections)
    page = Outline(html)
    assert html.count("onerror=alert(1)&gt;") >= 5
    assert "onerror=alert(1)>" not in html
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert "{{ 7 * 7 }}" in page.text
    assert "49" not in page.text


def test_pictures_of_a_page_are_small():
    small = picture(np.zeros((10, 40, 3), np.uint8), '"black"', side=20)
    assert (small.width, small.height) == (20, 5)
    content = base64.b64decode(small.src.partition("base64,")[2])
    assert Image.open(io.BytesIO(content)).size == (20, 5)


# A script outside the page measures it in a frame as wide as a phone or a desktop.
MEASURES = """
const frame = document.createElement("iframe");
frame.style = "height:900px; border:0; width:" + location.pathname.split("/").pop() + "px";
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const inside = [...page.querySelectorAll("*")].filter(one => !one.closest(".scroll, .drawing"));
  const found = {
    width: root.clientWidth,
    overflow: Math.max(root.scrollWidth, page.body.scrollWidth) - root.clientWidth,
    beyond: inside.filter(one => one.getBoundingClientRect().right > root.clientWidth + 1).length,
    images: page.images.length,
    decoded: [...page.images].filter(image => image.naturalWidth > 0).length,
    described: [...page.images].filter(image => image.alt.length > 15).length,
    scripts: page.scripts.length, title: page.title,
    tables: [...page.querySelectorAll(".scroll")].map(box => {
      box.scrollLeft = 1e6;
      const last = box.querySelector("tr:last-child > :last-child").getBoundingClientRect();
      const heads = [...box.querySelectorAll("table:not(.matrix) tbody th")];
      return {
        caption: box.getAttribute("aria-label"), hidden: box.scrollWidth - box.clientWidth,
        lastIsSeen: last.right <= box.getBoundingClientRect().right + 1,
        namesAreSeen: heads.every(one =>
          one.getBoundingClientRect().left >= box.getBoundingClientRect().left - 1),
      };
    }),
  };
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
};
frame.src = "/page";
document.body.append(frame);
"""


@pytest.fixture(scope="module")
def site(hostile):
    """Serve the page and a frame around it; yield the port and the list of requested paths."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            wrapper = f"<!DOCTYPE html><body><script>{MEASURES}</script>"
            is_page = self.path == "/page"
            content = hostile.read_bytes() if is_page else wrapper.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()
    thread.join()


def browsed(address, folder, *options):
    """Return the HTML of an address after a browser has run it."""
    finished = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--disable-sync",
            f"--user-data-dir={folder}", *options, "--dump-dom",
            address,
        ],
        capture_output=True, text=True, timeout=400, check=True,
    )  # fmt: skip
    return finished.stdout


@needs_chromium
@pytest.mark.parametrize("width", [360, 390, 1240])
def test_a_browser_runs_no_code_and_cuts_no_text(width, site, outline, tmp_path):
    port, asked = site
    asked.clear()
    html = browsed(f"http://127.0.0.1:{port}/frame/{width}", tmp_path, "--window-size=1280,1000")
    found = json.loads(re.search('<pre id="found">(.*?)</pre>', html)[1].replace("&amp;", "&")
                       .replace("&lt;", "<").replace("&gt;", ">"))  # fmt: skip
    assert found["width"] in (width, width - 15)  # with a scroll bar
    assert found["overflow"] <= 0
    assert found["beyond"] == 0
    assert found["images"] == found["decoded"] == found["described"] == len(outline.all("img"))
    # Wide tables scroll by themselves, and the names of their rows stay visible.
    assert len(found["tables"]) >= 4
    for table_ in found["tables"]:
        assert table_["lastIsSeen"], table_
        assert table_["namesAreSeen"], table_
        if table_["caption"].startswith("Precision"):
            assert table_["hidden"] <= 0, table_
    assert found["scripts"] == 0
    assert found["title"] == "<b>Digits</b> & 'more'"
    # The page requests nothing; the browser itself requests the icon.
    assert set(asked) <= {f"/frame/{width}", "/page", "/favicon.ico"}
    assert "/page" in asked


@needs_chromium
def test_a_browser_sends_no_requests_for_the_file(hostile, tmp_path):
    log = tmp_path / "net.json"
    html = browsed(hostile.as_uri(), tmp_path / "profile", f"--log-net-log={log}")
    assert "<title>&lt;b&gt;Digits&lt;/b&gt; &amp; 'more'</title>" in html
    hosts = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text()))
    # The browser sends some requests of its own for every page.
    assert [host for host in hosts if not re.search(r"\b(google|gstatic|googleapis)\b", host)] == []


@pytest.mark.realdata
def test_the_page_of_sports_is_smaller_than_five_megabytes(data, tmp_path):
    train = load_image_folder(data / "sports10", split="valid")
    test = load_image_folder(data / "sports10", split="test")
    classifier = TransferClassifier("tiny", l2=0.1).fit(train.data, train.target)
    path = written(tmp_path, classifier, test.data, test.target, title="Ten sports")
    assert path.stat().st_size < 5_000_000
    assert "basketball" in path.read_text("utf-8")
