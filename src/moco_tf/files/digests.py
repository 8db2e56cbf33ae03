"""Small files that carry their own SHA-256: JSON, lines of text, zip archives (.npz).

What a file carries is never out of step with it, whenever its writer is killed. Files of versions
that carried none are read as they are. Imports no TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moco_tf.errors import DamagedError
from moco_tf.files.atomic import write_atomically

FIELD = "sha256"
_HEX = 64  # digits of a digest
_FIRST_LINE = b"# sha256 "


def add_json_digest(value: Mapping[str, Any]) -> bytes:
    """Returns `value` as JSON whose last field is the SHA-256 of the file without that field."""
    return _to_json(dict(value) | {FIELD: _digest(_to_json(value))})


def check_json_digest(data: bytes) -> tuple[bytes, str | None]:
    """Returns a JSON object without its digest, and the digest, None if it carries none.

    Raises:
        DamagedError: if it is not a JSON object, or not the one that the digest is of.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamagedError("it is not a JSON object")
    last, of = next(reversed(value.items()), ("", None))
    if last == FIELD:
        del value[FIELD]
        if add_json_digest(value) != data:
            raise DamagedError("it does not match the digest that it carries")
        return _to_json(value), of
    named = last.endswith(f"_{FIELD}")  # the digest of something else
    if FIELD in value or (isinstance(of, str) and len(of) == _HEX and not named):
        raise DamagedError("its last field is not a digest of the rest")
    return data, None


def add_lines_digest(lines: Sequence[str]) -> bytes:
    """Returns the lines of a text below a first one, "# sha256 ...", with their digest."""
    data = "".join(f"{line}\n" for line in lines).encode()
    return _FIRST_LINE + _digest(data).encode() + b"\n" + data


def check_lines_digest(data: bytes) -> tuple[bytes, str | None]:
    """Returns the text below the line with its digest, and the digest, None if there is none.

    Raises:
        DamagedError: if the text is not the one that the digest is of.
    """
    first, _, text = data.partition(b"\n")
    cut_off = _FIRST_LINE.startswith(data)
    damaged = re.fullmatch(rb".{9}[0-9a-f]{64}", first, re.DOTALL)  # in its first bytes
    if not (first.startswith(_FIRST_LINE) or cut_off or damaged):
        return data, None
    if first != _FIRST_LINE + _digest(text).encode():
        raise DamagedError("its first line is not a digest of the others")
    return text, _digest(text)


def add_zip_digest(archive: bytes) -> bytes:
    """Returns the archive with a comment, at its very end: the SHA-256 of what is before it."""
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as opened:
        opened.comment = b"0" * _HEX
    data = file.getvalue()[:-_HEX]
    return data + _digest(data).encode()


def check_zip_digest(data: bytes) -> tuple[bytes, str | None]:
    """Returns an archive, and the digest in its comment, None if it carries none.

    Raises:
        DamagedError: if it is no archive, or not the one that the digest is of.
    """
    content, carried = data[:-_HEX], data[-_HEX:]
    if re.fullmatch(rb"[0-9a-f]{64}", carried):
        if _digest(content).encode() != carried:
            raise DamagedError("it does not match the digest that it carries")
        return data, carried.decode()
    # Without a comment an archive ends with a record of 22 bytes, the last two of them zero.
    if data[-22:-18] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise DamagedError("it is not an archive, or it is cut off")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            broken = opened.testzip()
    except Exception as error:  # what it raises depends on which byte is wrong
        raise DamagedError(f"not a whole archive: {error}") from None
    if broken is not None:
        raise DamagedError(f"{broken} in it does not match its checksum")
    return data, None


def _to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes `value` as JSON that carries its digest to `path`, whole or not at all.

    Raises:
        InputError: if the disk is full or the folder cannot be written to.
    """
    write_atomically(path, add_json_digest(value))


def read_json(path: Path) -> dict[str, Any]:
    """Returns what `write_json` wrote, or any other JSON object, without its digest.

    Raises:
        DamagedError: if it is not what was written, or no JSON object.
        OSError: if it cannot be read.
    """
    return json.loads(check_json_digest(path.read_bytes())[0])
