"""A page of HTML that needs nothing else: elements, tables, pictures, and the page around them.

Elements are those of the standard library, which escapes whatever it writes: no text from outside
is ever put together with markup. Browsers are told to run no script and to fetch nothing.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from transferclf.reports.displays.figures import pyplot
from transferclf.reports.names import short_name

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

JPEG_QUALITY = 82

# A drawing with more than this many bytes is smaller as pixels.
MAX_DRAWING = 150_000
DOTS_PER_INCH = 130

# Names are cut at so many letters where there is room for a line of text.
NAME_WIDTH = 60

Child = Element | str | None


def element(tag: str, *children: Child, **attributes: Any) -> Element:
    """An element of HTML.

    Parameters
    ----------
    tag : str
        Its name.
    *children : Element, str or None
        What is in it; strings are text, whatever they look like, and None is nothing.
    **attributes
        Its attributes; `class_` is "class", and underscores within names are hyphens.

    Returns
    -------
    Element

    Examples
    --------
    >>> from xml.etree import ElementTree
    >>> ElementTree.tostring(element("p", "1 < 2", class_="note"), "unicode", "html")
    '<p class="note">1 &lt; 2</p>'
    """
    names = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    made = Element(tag, names)
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None:
            _add_text(made, child)
    return made


def _add_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def name_element(name: Any, width: int = NAME_WIDTH) -> Element:
    """A name from outside: one line of text, whose direction changes nothing around it."""
    return element("bdi", short_name(name, width) or "(empty)")


def table(
    caption: str,
    columns: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    class_: str = "",
) -> Element:
    """A table whose first column names the rows, in a box that scrolls by itself.

    Parameters
    ----------
    caption : str
        What the table is about.
    columns : sequence of Element, str or None
        The heads of the columns.
    rows : iterable of sequences of Element, str or None
        The cells; a `td` is taken as it is.
    class_ : str, default=""
        Of the table.

    Returns
    -------
    Element
    """
    heads = [element("th", head, scope="col") for head in columns]
    body = [
        element("tr", element("th", first, scope="row"), *map(_cell, rest)) for first, *rest in rows
    ]
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        class_=class_,
    )
    # Whoever has no mouse scrolls by keys, which needs the box to take the focus.
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(content: Child) -> Element:
    is_cell = isinstance(content, Element) and content.tag == "td"
    return content if is_cell else element("td", content)  # type: ignore[return-value]


def picture(pixels: np.ndarray, alt: str, *, side: int = 160) -> Element:
    """An image as part of the page.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        The image.
    alt : str
        What is to be seen, for those who do not see it.
    side : int, default=160
        The longer side is made no longer than this, in pixels.

    Returns
    -------
    Element
    """
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _embedded(content.getvalue(), "image/jpeg", alt, width=image.width, height=image.height)


def drawing(figure: Any, alt: str) -> Element:
    """A figure of matplotlib as part of the page: lines where they are small, else pixels."""
    import matplotlib

    # Texts stay texts, in the fonts of whoever reads; and the same figure is the same bytes.
    with warnings.catch_warnings(), matplotlib.rc_context(_AS_TEXT):
        warnings.filterwarnings("ignore", message="Glyph")
        content = _saved(figure, format="svg", metadata={"Date": None})
        if len(content) <= MAX_DRAWING:
            return _embedded(content, "image/svg+xml", alt, class_="drawing")
        content = _saved(figure, format="png", dpi=DOTS_PER_INCH)
    return _embedded(content, "image/png", alt, class_="drawing")


def finished(figure: Any, alt: str) -> Element:
    """A figure of this module's caller as part of the page; it is closed."""
    try:
        return drawing(figure, alt)
    finally:
        pyplot().close(figure)


_AS_TEXT: Any = {"svg.fonttype": "none", "svg.hashsalt": "transferclf"}


def _saved(figure: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, bbox_inches="tight", **options)
    return content.getvalue()


def _embedded(content: bytes, kind: str, alt: str, **attributes: Any) -> Element:
    address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return element("img", src=address, alt=alt, **attributes)


def page(title: str, subtitle: Iterable[Child], sections: Sequence[Element]) -> bytes:
    """A whole page.

    Parameters
    ----------
    title : str
        Its title.
    subtitle : iterable of Element, str or None
        What stands below the title.
    sections : sequence of Element
        Each with an id, and a heading as its first child; the contents lead to them.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    rules = files("transferclf.reports.page").joinpath("page.css").read_text("utf-8")
    style = element("style", rules)
    links = [
        element("li", element("a", section[0].text or "", href=f"#{section.get('id')}"))
        for section in sections
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light"),
        element("title", title),
        style,
    )
    header = element("header", element("h1", title), element("p", *subtitle))
    contents = element("nav", element("ol", *links), aria_label="Contents")
    body = element("body", header, contents, element("main", *sections))
    whole = ElementTree.tostring(element("html", head, body, lang="en"), "unicode", "html")
    return f"<!DOCTYPE html>\n{whole}\n".encode()
