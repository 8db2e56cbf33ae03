"""HTML pages of one file: no network, light and dark, no script but ours. Imports no TensorFlow."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from moco_tf import __version__
from moco_tf.errors import InputError, one_line
from moco_tf.files.atomic import make_folder, write_atomically
from moco_tf.report.images import data_uri

SCRIPTS = ("vendor/uPlot.iife.min.js", "templates/page.js")
STYLES = ("vendor/uPlot.min.css", "templates/page.css")


def render(template: str, **values: Any) -> bytes:
    """Returns the page of a file in `templates/`, which extends page.html; `values` are escaped.

    An array uint8 [h, w, 3] becomes an image by `{{ pixels | image }}`. A byte of a file name that
    is no UTF-8 is shown as `?`.
    """
    text = _environment().get_template(template).render(values)
    return text.encode("utf-8", "replace")


def write(path: Path, page: bytes) -> None:
    """Writes a page, at once or not at all.

    Raises:
        InputError: if `path` is a folder, or cannot be written.
    """
    if path.is_dir():
        raise InputError(f"out={path} is a folder. Give a file: --out {path / 'report.html'}.")
    make_folder(path.parent)
    write_atomically(path, page)


def link(file: Path, page: Path) -> str:
    """Returns where `file` is, as a link in the page that is written to `page`."""
    relative = os.path.relpath(file.resolve(), page.parent.resolve())
    return quote(os.fsencode(Path(relative).as_posix()))


@cache
def _environment() -> Any:
    import jinja2
    from markupsafe import Markup

    here = files("moco_tf.report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(here / "templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [(here / name).read_text(encoding="utf-8") for name in SCRIPTS]
    environment.globals |= {
        "version": __version__,
        "style": Markup("\n".join((here / n).read_text(encoding="utf-8") for n in STYLES)),
        "scripts": [Markup(script) for script in scripts],
        "script_digests": [_digest(script) for script in scripts],
    }
    environment.filters |= {"image": data_uri, "number": number, "plain": _plain}
    return environment


def _digest(script: str) -> str:
    """Of a script that the page's security policy allows, as CSP writes it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def number(value: float | None, digits: int = 4) -> str:
    """A number as people read it; a dash where there is none."""
    if value is None:
        return "-"
    whole = isinstance(value, int) or abs(value) >= 10**digits
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


def _plain(value: Any) -> str:
    """A value of a config, in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return one_line("none" if value is None else str(value))
