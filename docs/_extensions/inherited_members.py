"""Sphinx extension: leave out the methods that scikit-learn's base classes bring and document."""

from __future__ import annotations

LEFT_OUT = ("get_metadata_routing", "set_output")


def skip(app, what, name, thing, skipped, options):
    by_sklearn = str(getattr(thing, "__module__", "")).startswith("sklearn.")
    is_request = name.startswith("set_") and name.endswith("_request")
    return True if by_sklearn or is_request or name in LEFT_OUT else None


def setup(app):
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
