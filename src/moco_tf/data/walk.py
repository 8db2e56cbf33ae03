"""Which files of a folder are images: by their names, at any depth, links followed.

Nothing is opened here, and TensorFlow is not imported.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import features

JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"}
PNM = {".pbm", ".pgm", ".ppm", ".pnm"}
AVIF = {".avif"} if features.check("avif") else set()
SUFFIXES = frozenset({".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"} | JPEG | PNM | AVIF)
# What systems, network drives and editors put beside pictures, in lower case.
_FOLDERS = (
    "@eadir, @recycle, @recently-snapshot, @sharebin, @synoresource, @tmp, #recycle, #snapshot, "
    "$recycle.bin, recycler, recycled, system volume information, found.000, lost+found, "
    "__macosx, __pycache__"
)
_FILES = "thumbs.db, ehthumbs.db, ehthumbs_vista.db, desktop.ini, zbthumbnail.info, icon\r"
NOT_THE_USERS = frozenset(f"{_FOLDERS}, {_FILES}".split(", "))


def walk(folder: str, inner: str, left_out: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields (folder below `folder`, image files in it) as `FileNames` takes them, from `inner` on.

    The files come in the order of the parts of their paths. Other files are counted.
    """
    images, folders, at = [], [], 0
    try:
        for entry, is_folder in entries(os.path.join(folder, inner)):
            if is_folder:
                folders.append(entry.name)
            elif not entry.is_file():
                left_out["link to nothing" if entry.is_symlink() else "pipe or the like"] += 1
            elif suffix_of(entry.name) in SUFFIXES:
                images.append(entry.name)
            else:
                left_out[_kind_left_out(entry.name)] += 1
    except OSError:
        left_out["folder that cannot be read"] += 1
    images.sort()
    for name in sorted(folders):
        until = bisect(images, name, at)
        if at < until:
            yield inner, images[at:until]
        at = until
        yield from walk(folder, f"{inner}/{name}" if inner else name, left_out)
    if images[at:]:
        yield inner, images[at:]


def suffix_of(name: str) -> str:
    """In lower case, with its dot."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def _kind_left_out(name: str) -> str:
    """What kind of a file it is that is no image."""
    suffix = suffix_of(name)
    usual = len(suffix) < 10 and suffix[1:].isalnum() and not suffix[1:].isdecimal()
    return suffix if usual else "file without a usual suffix"


def entries(folder: Path | str) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """Yields (entry, whether it is a folder) of what is the user's and no link back."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith(".") or entry.name.lower() in NOT_THE_USERS:
                continue
            if not entry.is_dir():
                yield entry, False
            elif not entry.is_symlink() or not _leads_back(entry.path):
                yield entry, True


def _leads_back(link: str) -> bool:
    """Whether a link is one to a folder that it lies in."""
    return Path(link).parent.resolve().is_relative_to(Path(link).resolve())


def holds_image(folder: Path | str) -> bool:
    """Whether there is an image in `folder`, at any depth; looks no further than the first."""
    inner = []
    try:
        for entry, is_folder in entries(folder):
            if is_folder:
                inner.append(entry.path)
            elif suffix_of(entry.name) in SUFFIXES and entry.is_file():
                return True
    except OSError:  # which the walk counts
        return False
    return any(map(holds_image, inner))
