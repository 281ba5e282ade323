"""The site builds without a warning, its links lead somewhere, and it fits a phone.

`tox -e docs` builds it with the pictures of the gallery and sets TRANSFERCLF_SITE to its folder.
Elsewhere the examples of the gallery are not run here; `test_gallery.py` runs them.
"""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import transferclf
from transferclf import exceptions, reports

pytest.importorskip("sphinx", reason="Sphinx is not installed")
pytestmark = [pytest.mark.scripts, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    f"{package.__name__}.{name}"
    for package in (transferclf, reports, exceptions)
    for name in package.__all__
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
PAGES = (
    "index.html",
    "start/index.html",
    "tutorials/folder_to_model.html",
    "how_to/exporting.html",
    "explanation/benchmarks.html",
    "explanation/results.html",
    "reference/index.html",
    "reference/generated/transferclf.TransferClassifier.html",
    "coming_from/fastai.html",
    "gallery/plot_first_classifier.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site; build it without the pictures of the gallery if need be."""
    if built := os.environ.get("TRANSFERCLF_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("site")
    made = shutil.ignore_patterns("_build", "generated", "gallery")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=made)
    shutil.copytree(ROOT / "examples", folder / "examples")
    built = folder / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    run = subprocess.run(
        [*command, str(folder / "docs"), str(built)],
        env=os.environ | {"TRANSFERCLF_GALLERY": "no"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return built


def test_each_public_name_has_a_page(site):
    pages = site / "reference/generated"
    assert [name for name in PUBLIC if not (pages / f"{name}.html").exists()] == []


class Links(HTMLParser):
    """The targets of links and the anchors of a page."""

    def __init__(self, page):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        for name in ("href", "src"):
            if values.get(name):
                self.links.append(values[name])


def test_links_of_the_site_lead_somewhere(site):
    # The theme brings templates of its own below _static.
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    assert len(pages) > len(PUBLIC)
    lost = [
        (page.relative_to(site).as_posix(), link)
        for page, found in pages.items()
        for link in found.links
        if not leads_somewhere(page, link, pages)
    ]
    assert lost == []


def leads_somewhere(page, link, pages):
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True  # other sites are not asked
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return False
    return (
        not parts.fragment
        or target not in pages
        or unquote(parts.fragment) in pages[target].anchors
    )


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def show(browser, page, size="desktop"):
    """Open a page in a window whose contents have a size, and return the errors it reports."""
    width, height = SIZES[size]
    # A window of a browser cannot be as narrow as a phone. The protocol can make its contents so.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"},
    )
    browser.get_log("browser")
    browser.get(page.as_uri())
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


# The pixels by which a page is wider than the window, or the article than its column. Tables and
# code scroll inside their own boxes, which makes neither wider.
EXCESS = """
const column = document.querySelector(".bd-article-container");
const page = document.documentElement;
return [page.scrollWidth - window.innerWidth, column.scrollWidth - column.clientWidth];
"""


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_screen_and_report_no_error(site, browser, size):
    found = []
    for name in PAGES:
        errors = show(browser, site / name, size)
        assert browser.execute_script("return window.innerWidth") == SIZES[size][0]
        excess = browser.execute_script(EXCESS)
        if errors or max(excess) > 0:
            found.append((name, excess, errors))
    assert found == []


def test_the_search_finds_a_parameter(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    page = site / "search.html"
    show(browser, page)
    browser.get(page.as_uri() + "?q=trainable_layers")
    # The results appear one after the other.
    wanted = "generated/transferclf.TransferClassifier.html"
    WebDriverWait(browser, 20).until(
        lambda it: any(
            wanted in each.get_attribute("href")
            for each in it.find_elements(By.CSS_SELECTOR, "#search-results li a")
        )
    )
