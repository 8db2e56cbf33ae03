"""Sphinx: the documentation site. `make docs` builds it, and every warning is an error."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent / "src"), str(DOCS)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from generate import copy_records, links_to_copies, write_reference  # noqa: E402

import moco_tf  # noqa: E402

write_reference(DOCS / "reference")
copy_records(DOCS / "records")

project = "moco-tf"
author = "The moco-tf authors"
version = release = moco_tf.__version__
html_title = f"moco-tf {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nitpicky = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_static_path: list[str] = []
html_show_copyright = False
exclude_patterns = ["_build"]


def setup(app):
    app.connect("source-read", links_to_copies)
