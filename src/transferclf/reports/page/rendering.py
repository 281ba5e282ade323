"""Rendering of the page: Jinja2 templates that escape all values, and images as data addresses.

No value is marked as safe, so that no text from outside becomes markup. Browsers are told to run no
script and to fetch nothing.
"""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from transferclf.reports.displays.figures import pyplot
from transferclf.reports.names import short_name
from transferclf.reports.tables import extra

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

JPEG_QUALITY = 82

MAX_DRAWING = 150_000  # drawings of more bytes are embedded as pixels, which take less
DOTS_PER_INCH = 130

NAME_WIDTH = 60  # letters of a name on a line of text

# Texts stay texts, in the reader's fonts. With a fixed salt the same figure gives the same bytes.
_AS_TEXT: Any = {"svg.fonttype": "none", "svg.hashsalt": "transferclf"}


@dataclass(frozen=True)
class Embedded:
    """An image inside the page; `alt` describes it for people who do not see it."""

    src: str
    alt: str
    width: int | None = None
    height: int | None = None


def rendered(template: str, **values: object) -> str:
    """Return the text of a template with these values."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return the templates of this package; values are escaped, and a missing one is an error."""
    jinja2 = extra("jinja2")
    folder = files("transferclf.reports.page").joinpath("templates")
    loader = jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8"))
    made = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["name"] = name_text
    return made


def name_text(name: object, width: int = NAME_WIDTH) -> str:
    """Return a name from outside as one line of text that is never empty."""
    return short_name(name, width) or "(empty)"


def picture(pixels: np.ndarray, alt: str, side: int) -> Embedded:
    """Return an image (h, w, 3) of uint8 for the page, its longer side at most `side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=JPEG_QUALITY, optimize=True)
    address = _address(content.getvalue(), "image/jpeg")
    return Embedded(address, alt, width=image.width, height=image.height)


def drawing(figure: Figure, alt: str) -> Embedded:
    """Return a figure for the page, and close it: lines if they take few bytes, else pixels."""
    import matplotlib

    def saved(**options: Any) -> bytes:
        content = io.BytesIO()
        figure.savefig(content, bbox_inches="tight", **options)
        return content.getvalue()

    try:
        with warnings.catch_warnings(), matplotlib.rc_context(_AS_TEXT):
            warnings.filterwarnings("ignore", message="Glyph")
            content = saved(format="svg", metadata={"Date": None})
            if len(content) <= MAX_DRAWING:
                return Embedded(_address(content, "image/svg+xml"), alt)
            return Embedded(_address(saved(format="png", dpi=DOTS_PER_INCH), "image/png"), alt)
    finally:
        pyplot().close(figure)


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
