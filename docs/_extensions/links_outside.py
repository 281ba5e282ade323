"""Sphinx extension: name the files of the project that are linked but not part of the site.

The pages link such files by their place in the project. The site has no address of the project, so
that each link becomes its text and the path of the file.
"""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def replaced(text: str, page: Path, root: Path) -> str:
    """Return the text of a page with the links that leave `root` as text and path."""

    def path_of(match: re.Match[str]) -> str:
        words, link = match[1], match[2]
        target = (page.parent / link).resolve()
        if "://" in link or target.is_relative_to(root):
            return match[0]
        path = target.relative_to(root.parent).as_posix()
        return f"`{path}`" if words == path else f"{words} (`{path}`)"

    return LINK.sub(path_of, text)


def read(app, docname, source):
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        source[0] = replaced(source[0], page, Path(app.srcdir))


def setup(app):
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
