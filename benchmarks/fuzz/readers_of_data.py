"""The readers of images in files, folders, arrays and packs, and of traces; see `readers`."""

import functools
import hashlib
import os
from pathlib import Path


def image(given: Path):
    """One encoded image, decoded in a graph, as everywhere in the package."""
    import tensorflow as tf
    from images import hostile_image

    function = compiled_decode()

    def read(case: Path) -> str:
        try:
            function(tf.constant((case / "a.jpg").read_bytes()))
        except (tf.errors.OpError, OSError, ValueError):  # the three that the package expects
            return "refused"
        return "read"

    return lambda rng: {"a.jpg": hostile_image(rng)}, read, ""


def folder(given: Path):
    """A folder of images with odd names, links and pipes, its cache, and each image of it read."""
    from folders import CACHE, hostile_folder

    from moco_tf.data.sources import open_images

    def read(case: Path) -> str:
        if (case / CACHE).exists():
            key = hashlib.sha256(os.fsencode(case.resolve())).hexdigest()[:16]
            os.environ["XDG_CACHE_HOME"] = str(case)
            kept = case / "moco-tf" / f"images-{key}.npz"
            kept.parent.mkdir()
            (case / CACHE).rename(kept)
        for images in open_images(str(case), max_bad_images=0.9):
            read_all(images)
        return "read"

    return hostile_folder, read, ""


@functools.cache
def compiled_decode():
    import tensorflow as tf

    from moco_tf.data.decode import decode

    return tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])


def read_all(images) -> None:
    """Decodes every image; one that was damaged since it was counted is refused."""
    import tensorflow as tf

    from moco_tf.errors import InputError

    for index in range(min(images.count, 20) if images else 0):
        try:
            source = images.read(tf.constant(index, tf.int64))
            if images.encoded:
                compiled_decode()(source)
        except (tf.errors.OpError, OSError, ValueError):  # as `first_unreadable` does
            raise InputError(f"{index} could not be read.") from None


def data_npz(given: Path):
    """Images in an .npz file."""
    import numpy as np
    from archives import hostile_npz

    from moco_tf.data.sources import open_images

    arrays = {
        "x_train": np.arange(5 * 6 * 6 * 3, dtype=np.uint8).reshape(5, 6, 6, 3),
        "y_train": np.array(["cat", "dog", "cat", "dog", "cat"]),
        "x_test": np.zeros((2, 6, 6, 3), np.uint8),
        "y_test": np.array(["dog", "cat"]),
    }

    def read(case: Path) -> str:
        for images in open_images(str(case / "a.npz")):
            read_all(images)
        return "read"

    return lambda rng: {"a.npz": hostile_npz(rng, arrays)}, read, ""


def trace(given: Path):
    """Recorded steps of both kinds, up to where a network is built."""
    from archives import hostile_npz
    from traces import hostile_traces

    from moco_tf.verify.run import KINDS
    from moco_tf.verify.traces import read_trace

    def read(case: Path) -> str:
        found = read_trace(case / "a.npz")
        for name, shape, kinds in KINDS[found.kind].arrays(found.settings):
            found.require(name, shape, kinds)
        return "read"

    return lambda rng: {"a.npz": hostile_traces(rng, hostile_npz)}, read, ""


def pack(given: Path):
    """A finished pack, and each image of it read."""
    from packs import hostile_pack, whole_pack

    from moco_tf.data.sources import open_images

    whole = whole_pack(given)

    def read(case: Path) -> str:
        for images in open_images(str(case)):
            read_all(images)
        return "read"

    return lambda rng: hostile_pack(rng, whole), read, ""


def packing(given: Path):
    """A pack that was begun, which packing goes on with."""
    from packs import begun_pack, hostile_begun

    from moco_tf.data.pack.write import pack as go_on

    source, begun = begun_pack(given)

    def read(case: Path) -> str:
        go_on(str(source), case)
        return "read"

    return lambda rng: hostile_begun(rng, begun), read, ""
