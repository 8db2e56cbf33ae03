"""Reading .npz files of plain arrays; nothing in them is executed. Imports no TensorFlow."""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moco_tf.errors import InputError

SMALL = 2**26  # bytes of all arrays together that any file may hold
LARGEST_RATIO = 32  # of more: times the size of the file. Images, text and rows compress less.


def read_npz(path: Path | str, what: str) -> dict[str, np.ndarray]:
    """Returns all arrays of the .npz file `path`.

    Args:
        what: the thing that the file should be, for the message: "a trace".

    Raises:
        InputError: the file is absent, damaged, no .npz, holds pickled objects, or claims to hold
            more than `LARGEST_RATIO` times its size; the message names it.
    """
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path} is not {what}: it is not an .npz file, or a damaged one.")
            check_claims(file, path, what)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror or error}.") from None
    except InputError:
        raise
    except Exception as error:  # what zipfile and NumPy raise depends on which byte is wrong
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else str(error)
        reason = " ".join(reason.split())[:200]
        raise InputError(f"{path} is not {what}: its arrays cannot be read ({reason}).") from None


def check_claims(file: BinaryIO, path: Path | str, what: str) -> None:
    """Raises `InputError` for a bomb, before anything in the zip archive is unpacked.

    No reader unpacks more of a member than the archive's list claims.
    """
    with zipfile.ZipFile(file) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    held = os.fstat(file.fileno()).st_size
    if claimed > most_unpacked(held):
        raise InputError(
            f"{path} is not {what}: it claims to hold {claimed} bytes and has {held}; more than "
            f"{LARGEST_RATIO} times its size is not unpacked. Save it without compression."
        )


def most_unpacked(held: int) -> int:
    """Bytes that a file of `held` bytes may hold unpacked."""
    return max(SMALL, LARGEST_RATIO * held)
