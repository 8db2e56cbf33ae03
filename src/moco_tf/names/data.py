"""What the text of `data` names: folders, files, shards, a data set, or an object of Python.

Nothing is opened, and neither TensorFlow nor NumPy is imported.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

from moco_tf.errors import InputError

NAMED_DATA = ("shapes", "cifar10", "cifar100")  # which no folder of this name hides
TFDS = "tfds:"
TFRECORDS = "tfrecord:"
OBJECT = "object:"  # and its class: what a run records of images that came from Python
_OPTIONS = re.compile(r"\?(\w+=[^&?]*(?:&\w+=[^&?]*)*)$")


def text_of(data: Any) -> str:
    """Returns the text for a config: a path or several as they are typed, else "object:CLASS"."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if are_paths(data) and all(map(os.path.isdir, data)):
        joined = ",".join(map(os.fspath, data))
        if len(several(joined)) == len(data):
            return joined
    return f"{OBJECT}{qualified_name(type(data)).removeprefix('builtins.')}"


def text_or_object(data: Any) -> tuple[str | None, Any]:
    """Returns (text, None) of what names paths or a data set, else (None, the object)."""
    if data is None:
        return None, None
    text = text_of(data)
    is_object = text.startswith(OBJECT) and not isinstance(data, (str, os.PathLike))
    return (None, data) if is_object else (text, None)


def are_paths(data: Any) -> bool:
    """Whether it is a list of paths alone, so that it is read as files are."""
    if not isinstance(data, (list, tuple)) or not data:
        return False
    return all(isinstance(one, (str, os.PathLike)) for one in data)


def qualified_name(named: Any) -> str:
    """Returns the name that a run records of a class or a function; of others their class's."""
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def several(text: str) -> list[str]:
    """Returns the paths in `text`, commas between them; the path of something is one, as it is."""
    whole = [text]
    if "," not in text or os.path.exists(os.path.expanduser(text)):
        return whole
    return [part for part in text.split(",") if part] or whole


def paths_of(data: str) -> tuple[Path, ...]:
    """Returns the folders, files or patterns of shards; none for data sets, URLs and objects."""
    if data in NAMED_DATA or data.startswith((TFDS, OBJECT)) or "://" in data:
        return ()
    names = several(_OPTIONS.sub("", data[len(TFRECORDS) :]) if is_records(data) else data)
    return tuple(Path(os.path.expanduser(name)) for name in names)


def is_records(data: str) -> bool:
    return data.startswith(TFRECORDS)


def options_of(data: str) -> dict[str, str]:
    """Returns what follows the "?" of shards: {"image": KEY, ...}.

    Raises:
        InputError: for an option that there is not, or one without a value.
    """
    found = _OPTIONS.search(data)
    options = dict(one.split("=", 1) for one in found[1].split("&")) if found else {}
    known = ("image", "label", "text")
    for name, value in options.items():
        if name not in known or not value:
            raise InputError(
                f"data={data}: {name}={value} names no key of the records. Use "
                f"{' or '.join(f'{one}=KEY' for one in known)}."
            )
    return options


def absolute(data: str) -> str | None:
    """Returns `data` with absolute paths; None where it names no path."""
    paths = paths_of(data)
    if not paths:
        return None
    found = _OPTIONS.search(data) if is_records(data) else None
    joined = ",".join(map(os.path.abspath, paths))
    return f"{TFRECORDS if is_records(data) else ''}{joined}{found[0] if found else ''}"


def is_there(data: str) -> bool:
    """Whether there is something at each path of `data`; true where it names none."""
    if is_records(data):
        return all(any(glob.iglob(str(path))) for path in paths_of(data))
    return all(path.exists() for path in paths_of(data))


def lost_object(data: str) -> str:
    """What to say where the images of a run were an object of Python, which no folder keeps."""
    return (
        f"data={data} was an object of Python, which is not kept. Give it again, as data=... from "
        f"Python, or give the images: --data D."
    )
