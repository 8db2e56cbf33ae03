"""Files written whole or not at all: under a temporary name, then renamed. Locks; links refused."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from moco_tf.errors import InputError

try:
    import fcntl
except ImportError:  # native Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (
    "this system has no file locks (Python's module fcntl is missing), which every folder that is "
    "written to needs. Use Linux, macOS, or Windows through WSL 2."
)


def write_atomically(
    path: Path, data: bytes, *, verify: Callable[[Path], None] | None = None
) -> None:
    """Writes `data` to `path`: temporary name, fsync, `verify(temporary)`, rename, fsync of folder.

    When any of it fails, the temporary file is removed and what was at `path` is still there.

    Raises:
        InputError: if the disk is full or the folder cannot be written to.
    """
    temporary = temporary_name(path)
    try:
        remove_link(temporary)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, len(data), error) from error
        raise
    _fsync_folder(path.parent)


def link_atomically(source: Path, path: Path) -> bool:
    """Gives the file `source` a second name, `path`, in the same folder; returns whether it can.

    Some file systems have no hard links.
    """
    temporary = temporary_name(path)
    try:
        os.link(source, temporary)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # or what is written to it would be written to the source
        return False
    _fsync_folder(path.parent)
    return True


def temporary_name(path: Path) -> Path:
    """Returns the hidden name that `path` is written under before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


def remove_link(path: Path) -> None:
    """Removes a link to a file or to nothing, through which a folder's maker could have us write.

    One to a device, such as /dev/null, stays.
    """
    if path.is_symlink() and not path.is_char_device():
        path.unlink()


def not_through_a_link(path: str, flags: int) -> int:
    """An opener for files that are written to: in a folder of another's they may lead elsewhere.

    Raises:
        InputError: if the file is a link.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path} is a link, and is not written to. Remove it.") from None


def take_lock(file: IO[Any] | int, in_use: Callable[[], str]) -> None:
    """Locks an open file or folder for this process, until it is closed; freed also by a kill.

    Args:
        in_use: what the error says.

    Raises:
        InputError: if another process has locked it.
    """
    _refuse_without_locks()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(in_use()) from None


def wait_for_lock(file: IO[Any] | int) -> None:
    """Locks an open file as `take_lock` does, once no other process has it locked."""
    _refuse_without_locks()
    fcntl.flock(file, fcntl.LOCK_EX)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; raises `InputError` where that is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}.") from None


def write_error(path: Path, size: int, error: OSError) -> InputError | BrokenPipeError:
    """Returns what to raise where `size` bytes could not be written to `path`."""
    if isinstance(error, BrokenPipeError):  # of the output, which nobody reads any more
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"no space left to write {path} ({size / 1e6:.1f} MB). What was saved before is "
            f"whole; free some space and run the same command again."
        )
    return InputError(f"cannot write {path}: {error.strerror or error}.")


def _refuse_without_locks() -> None:
    """Else two processes could write to one run folder, and neither would notice."""
    if fcntl is None:
        raise InputError(NO_LOCKS)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse fsync of a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
