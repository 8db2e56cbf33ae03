"""Opening a data set with the features of its images, kept beside the run or computed.

Imports no TensorFlow: where no file has changed, the kept features suffice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moco_tf.data.listing import shown
from moco_tf.data.pillow import ALL_FORMATS, pillow_rgb
from moco_tf.errors import InputError
from moco_tf.evaluate.probe_config import result_folder
from moco_tf.look.bank import Bank, load_features
from moco_tf.look.kept_rows import FILE, encoder_stamp, read_rows
from moco_tf.names.data import text_of
from moco_tf.runs.snapshot import images_of, peek

if TYPE_CHECKING:
    from moco_tf.evaluate.features import Features
    from moco_tf.look.embedder import Embedder

FOLDER = "neighbours"  # in a run, with a digest of the data that the features are of
Say = Callable[[str], None]


def open_bank(
    run: str,
    data: Any,
    features: Features,
    max_bad_images: float | None,
    say: Say,
    start: Callable[[], None],
) -> Bank:
    """Returns all images of `data` with their features, which are kept in the run's folder.

    These are computed again where the encoder, the images or `features` have changed. Where no file
    of a folder has, it is not opened, nor the encoder restored before a picture needs it.

    Args:
        run: run folder (its newest whole checkpoint) or a file made by `convert`.
        data: what `open_images` takes; None: the run's own.
        max_bad_images: largest share of unreadable files to skip; None: the run's own.
        say: called with lines for the user.
        start: imports TensorFlow; called before it is needed.

    Raises:
        InputError: for anything wrong with the run or the data.
    """
    config = peek(run)
    data = images_of(config, data, run)
    name, side = text_of(data), config.image_size
    share = config.max_bad_images if max_bad_images is None else max_bad_images
    where = hashlib.sha256(f"{features} {os.path.abspath(name)}".encode(errors="replace"))
    out = result_folder(run, f"{FOLDER}-{where.hexdigest()[:12]}")
    stamp = encoder_stamp(run)
    about = json.dumps([stamp and stamp[0], features, config.normalization, side, share])

    def embedder() -> Embedder:
        start()
        from moco_tf.look.embedder import Embedder

        return Embedder(run, features, side, say)

    if stamp and os.access(out, os.W_OK) and (known := read_rows(out, about)):
        paths = known.paths
        return Bank(
            name, stamp[1], known.rows, [shown(os.fsdecode(path)) for path in paths],
            lambda row: _pixels(paths[row]),
            lambda: load_features(run, out, known.key, lambda: _lost(out), say, len(paths)),
            embedder,
        )  # fmt: skip
    made = embedder()
    from moco_tf.look.computing import computed_bank

    return computed_bank(
        made, data, out, about, stamp and stamp[1],
        normalization=config.normalization, max_bad_images=share, seed=config.seed,
    )  # fmt: skip


def _pixels(path: bytes) -> np.ndarray | None:
    try:
        return pillow_rgb(Path(os.fsdecode(path)).read_bytes(), ALL_FORMATS)
    except (OSError, ValueError):
        return None


def _lost(out: Path) -> list[np.ndarray]:
    (out / FILE).unlink()
    raise InputError(f"{out} is damaged. The same command computes the features again.")
