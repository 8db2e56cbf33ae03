"""Object stores, `s3://` and `gs://`, by way of fsspec: an extra of ours for each.

A store has no locks, no files that grow and no rename of a folder. A file is put there whole, under
a hidden name, read back, and only then copied into place: under its own name it is never half.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from moco_tf.errors import InputError, one_line

# Scheme -> our extra, and what a shell lists and copies a folder with.
STORES = {
    "s3": ("s3", "aws s3 ls", "aws s3 sync"),
    "gs": ("gcs", "gcloud storage ls", "gcloud storage rsync -r"),
}
_HALF = ".sending"
_CHUNK = 2**22  # bytes

Stamp = tuple[int, int]  # size and time of a file


def is_url(text: str) -> bool:
    """Whether `text` names a place on another file system."""
    return "://" in text


def copy_advice(path: Path | str) -> str | None:
    """Returns what to do where `path` should be on this machine and is in a store; else None.

    Args:
        path: a URL, also one of which `Path` has taken a slash away.
    """
    scheme, colon, rest = str(path).partition(":/")
    if not colon or scheme not in STORES:
        return None
    url, name = f"{scheme}://{rest.strip('/')}", rest.rstrip("/").rpartition("/")[2]
    copy = STORES[scheme][2]
    return (
        f"{url} is in an object store, and this takes what is on this machine. Copy it, as with "
        f"'{copy} {url} {name}', and give {name}."
    )


def cache_folder() -> Path:
    """Returns the folder for what can be made again, below XDG_CACHE_HOME or ~/.cache.

    It is made if that is allowed.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moco-tf"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_of(url: str) -> Path:
    """Returns the folder in the cache that belongs to `url`."""
    return cache_folder() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


class Store:
    """The files below a URL.

    Args:
        argument: what the URL was given as, for errors: "run_dir".

    Attributes:
        files: fsspec's file system.

    Raises:
        InputError: the kind of store is not known, or its extra is not installed.
    """

    def __init__(self, url: str, argument: str):
        self.url, self._given = url.rstrip("/"), f"{argument}={url}"
        scheme = url.partition("://")[0]
        if scheme not in STORES:
            raise InputError(f"{self._given}: {scheme}:// is not known. Use s3:// or gs://.")
        extra, listed, _ = STORES[scheme]
        self._fix = (
            f"Check the name, the credentials and the network, as with '{listed} {self.url}'."
        )
        with self.told("open"):  # a store may look for credentials at once
            try:
                from fsspec.core import url_to_fs

                # What is listed is what is there now; a connection is this object's own.
                settings = {"use_listings_cache": False, "skip_instance_cache": True}
                self.files, self._root = url_to_fs(self.url, **settings)
            except ImportError:
                raise InputError(
                    f"{self._given}: {scheme}:// needs an extra: pip install 'moco-tf[{extra}]'."
                ) from None

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Raises what goes wrong as `InputError`: that the URL could not be opened, read, ..."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # each store has kinds of its own
            told = f"cannot {what} {self._given} ({reason(error)}). {self._fix}"
            raise InputError(told) from None

    def names(self) -> dict[str, int]:
        """Returns the size in bytes of every file, by its name below the URL, sorted.

        A name that would lead out of a folder that it is copied to is left out.
        """
        found = self.files.find(self._root, detail=True)
        sizes = {path[len(self._root) + 1 :]: found[path]["size"] for path in sorted(found)}
        return {name: sizes[name] for name in sizes if not {"", ".."} & {*name.split("/")}}

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copies files into `folder`, under the same names."""
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files.get_file(self.path(name), str(path))

    def put(self, path: Path, name: str) -> Stamp | None:
        """Stores the file at `path`; returns the stamp of what was stored, None: there is no file.

        The file may be growing; what is stored is all that was in it at a moment.

        Raises:
            OSError: it did not come back as it was sent; under its own name nothing has changed.
        """
        if not path.exists():
            return None
        temporary = self.path(_half(name))
        with open(path, "rb") as source:
            now, sent = stamp(os.fstat(source.fileno())), hashlib.sha256()
            with self.files.open(temporary, "wb") as target:
                left = now[0]
                while left and (data := source.read(min(left, _CHUNK))):
                    left -= len(data)
                    sent.update(data)
                    target.write(data)
        with self.files.open(temporary, "rb") as stored:
            came_back = hashlib.file_digest(stored, "sha256")
            if (stored.size, came_back.digest()) != (now[0], sent.digest()):
                raise OSError(f"{name} came back damaged")
        self.files.cp_file(temporary, self.path(name))
        self.files.rm_file(temporary)
        return now

    def check_writable(self) -> None:
        """Raises what a store raises where nothing may be written: now, and not at the end."""
        self.files.pipe_file(self.path(_half("moco-tf")), b"")
        self.remove(_half("moco-tf"))

    def remove(self, name: str) -> None:
        """Deletes a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self.path(name))

    def path(self, name: str) -> str:
        """Returns what `files` calls a file."""
        return f"{self._root}/{name}"


def reason(error: BaseException) -> str:
    """Returns what a store says has gone wrong, short."""
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    said = first if " " in first else f"{type(error).__name__} {first}".strip()  # else but a name
    return one_line(said)[:200]


def is_half(name: str) -> bool:
    """Whether a file is one that was being stored when its process was killed."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(_HALF)


def stamp(status: os.stat_result) -> Stamp:
    """Returns what changes when a file does."""
    return status.st_size, status.st_mtime_ns


def _half(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}.{last}{_HALF}"
