"""Reading .npz files of plain arrays; nothing in them is executed. Imports no TensorFlow."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from moco_tf.errors import InputError


def read_npz(path: Path | str, what: str) -> dict[str, np.ndarray]:
    """Returns all arrays of the .npz file `path`.

    Args:
        what: the thing that the file should be, for the message: "a trace".

    Raises:
        InputError: the file is absent, damaged, no .npz or holds pickled objects; the message
            names it.
    """
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path} is not {what}: it is no .npz file, or a damaged one.")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror or error}.") from None
    except InputError:
        raise
    except (
        ValueError,
        EOFError,
        KeyError,
        SyntaxError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else str(error)
        reason = " ".join(reason.split())[:200]
        raise InputError(f"{path} is not {what}: its arrays cannot be read ({reason}).") from None
