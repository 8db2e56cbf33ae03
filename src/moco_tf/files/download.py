"""A file from a web server: resumed where it was cut off, checked, and only then given its name."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import rich.console
import rich.progress

from moco_tf.errors import DamagedError, InputError
from moco_tf.files.atomic import make_folder, take_lock, write_error
from moco_tf.files.store import reason

TRIES, PAUSE = 5, 1.0  # after cut connections without a byte between them; seconds, then doubled
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 2**16  # bytes, the most that a cut connection loses
_PART = ".part"
_PARTIAL_CONTENT, _NO_SUCH_RANGE = 206, 416


def download(
    url: str, path: Path, *, check: Callable[[Path], None], say: Callable[[str], None]
) -> None:
    """Downloads `url` to `path`, which gets its name only when the file is whole and checked.

    What an interrupted download has left beside it is continued, if the server still has the same
    file: the hidden name of the part holds the ETag, or the date, that the server gave.

    Args:
        check: raises `DamagedError` for a file that is not the right one; it is deleted.
        say: called with a line when bytes begin to come.

    Raises:
        InputError: in one line, with what to do.
    """
    make_folder(path.parent)
    with open(path.with_name(f".{path.name}.lock"), "a", encoding="utf-8") as lock:
        take_lock(lock, lambda: f"another process is downloading {url}. Wait for it to end.")
        part = _patiently(url, path, say)
        try:
            check(part)
        except DamagedError as error:
            part.unlink()
            raise InputError(
                f"what {url} gives is not the file that was published: {error}. It was deleted. "
                f"Try again; if that does not help, do not use it."
            ) from None
        part.replace(path)


def _patiently(url: str, path: Path, say: Callable[[str], None]) -> Path:
    """Tries again while bytes come; a server that cannot be reached at all is told at once."""
    import requests

    begun, tries = False, 0
    while True:
        before = _size(path)
        try:
            return _receive(url, path, say)
        except requests.RequestException as error:
            came = _size(path) > before
            tries = 0 if came else tries + 1
            begun = begun or came or isinstance(error, requests.exceptions.ChunkedEncodingError)
            if not begun or tries == TRIES:
                raise _cannot(url, _innermost(error), path) from None
            time.sleep(PAUSE * 2**tries)
        except OSError as error:
            raise write_error(path, _size(path), error) from None


def _receive(url: str, path: Path, say: Callable[[str], None]) -> Path:
    """Asks once for what is not there yet; returns the whole file, still under its hidden name.

    Raises:
        requests.RequestException: it did not come, or not all of it.
    """
    import requests

    part, there = _part(path), _size(path)
    headers = {"Accept-Encoding": "identity"}  # bytes as they are, so that they can be counted
    if part and there:
        headers |= {"Range": f"bytes={there}-", "If-Range": _validator_in(part, path)}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        span = response.headers.get("Content-Range", "")
        if part and response.status_code == _NO_SUCH_RANGE and span == f"bytes */{there}":
            return part  # it was whole
        if response.status_code == _NO_SUCH_RANGE and part:
            part.unlink()
            raise requests.ConnectionError("the server's file has changed")
        if not response.ok:
            raise _cannot(url, f"the server says {response.status_code} {response.reason}", path)
        if part and not (
            response.status_code == _PARTIAL_CONTENT and span.startswith(f"bytes {there}-")
        ):
            part.unlink()
            part, there = None, 0
        part = part or path.with_name(_part_name(path, response.headers))
        length = response.headers.get("Content-Length")
        whole = None if length is None else there + int(length)
        size = "" if whole is None else f" ({whole / 1e6:.1f} MB)"
        say(f"downloading {url}{size}{f', from byte {there} on' if there else ''}")
        with open(part, "ab" if there else "wb") as file:
            for chunk in _shown(response.iter_content(_CHUNK), whole and whole - there):
                file.write(chunk)
    if whole is not None and part.stat().st_size != whole:
        raise requests.ConnectionError(f"{part.stat().st_size} of {whole} bytes came")
    return part


def _shown(chunks: Any, size: int | None) -> Any:
    """The chunks, with a progress bar on a terminal."""
    return rich.progress.track(
        chunks,
        "",
        total=size and math.ceil(size / _CHUNK),
        console=rich.console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _part_name(path: Path, headers: Any) -> str:
    tag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
    validator = date if tag.startswith("W/") else tag or date  # If-Range takes no weak tag
    return f".{path.name}.{quote(validator[:100], safe='')}{_PART}"


def _validator_in(part: Path, path: Path) -> str:
    return unquote(part.name.removeprefix(f".{path.name}.").removesuffix(_PART))


def _part(path: Path) -> Path | None:
    """What an earlier download left; none that the server gave no name or date for."""
    parts = sorted(path.parent.glob(f".{path.name}.*{_PART}"))
    return next((part for part in parts if _validator_in(part, path)), None)


def _size(path: Path) -> int:
    part = _part(path)
    return part.stat().st_size if part else 0


def _innermost(error: BaseException) -> str:
    """What went wrong at the bottom, as "Name or service not known"."""
    while error.__context__ is not None:
        error = error.__context__
    return reason(error)


def _cannot(url: str, why: str, path: Path) -> InputError:
    kept = (
        f"; {_size(path)} bytes are kept, and the same command goes on from there"
        if _size(path)
        else ""
    )
    return InputError(
        f"cannot download {url} ({why}){kept}. Check the network and HTTPS_PROXY, or get the file "
        f"in another way and give its path."
    )
