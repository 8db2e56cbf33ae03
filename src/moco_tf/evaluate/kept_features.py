"""Features of a data set's images, kept in a folder for as long as they would come out the same.

Imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from moco_tf.errors import InputError
from moco_tf.files.atomic import make_folder
from moco_tf.runs import checkpoint

CACHE = "features"  # .safetensors
MAX_CACHED_BYTES = 2**31


def kept_features(
    out: Path, key: str, compute: Callable[[], list[np.ndarray]], say: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns (training features, test features, whether they were there already)."""
    make_folder(out)
    path = out / f"{CACHE}.safetensors"
    if path.exists():
        try:
            arrays, _, extra = checkpoint.load(path)
            if extra.get("key") == key:
                return arrays["train"], arrays["test"], True
        except InputError as error:
            say(f"{error} The features are computed again.")
    train, test = compute()
    if train.nbytes + test.nbytes <= MAX_CACHED_BYTES:
        arrays = {"train": train, "test": test}
        checkpoint.save(out, arrays, step=0, extra={"key": key}, tag=CACHE)
    else:
        say("the features are too many to keep; the next time they are computed again.")
    return train, test, False
