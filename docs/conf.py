"""Settings of the site that Sphinx builds from this folder: `tox -e docs`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))

import transferclf

project = "transferclf"
author = copyright = "The transferclf developers"
version = release = transferclf.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "inherited_members",
    "links_outside",
    "parameter_groups",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

# --- reference
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc shows the types of the docstrings
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

# --- pages
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# --- appearance
html_theme = "pydata_sphinx_theme"
html_title = f"transferclf {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the browser says
html_theme_options = {
    "navbar_align": "left",
    "show_nav_level": 1,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# --- gallery
sphinx_gallery_conf = {
    "examples_dirs": [str(HERE.parent / "examples" / "gallery")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 0,
    "plot_gallery": os.environ.get("TRANSFERCLF_GALLERY") != "no",
    "abort_on_example_error": True,
}
