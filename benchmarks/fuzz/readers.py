"""READERS: name -> what prepares its inputs and reads them.

Each function takes a folder for what it makes once, and returns (make, read, why not): `make` draws
an input, `read` gives it to the package and says "read" or "refused". A reason why not says what is
not installed. What the package's readers import comes with them.
"""

import functools
import hashlib
import importlib.util
import os
from pathlib import Path

from cases import broken


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
            (case / CACHE).rename(case / f".images-{key}.npz")
        for images in open_images(str(case), max_bad_images=0.9, cache=case):
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
        KINDS[found.kind].check_shapes(found)
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

    from moco_tf.pack import pack as go_on

    source, begun = begun_pack(given)

    def read(case: Path) -> str:
        go_on(str(source), case)
        return "read"

    return lambda rng: hostile_begun(rng, begun), read, ""


def yaml(given: Path):
    from texts import hostile_yaml

    from moco_tf.commands.pretrain import resolve_config
    from moco_tf.recipes import RECIPES

    fields = RECIPES["moco-v2"].config.model_dump(mode="json")

    def read(case: Path) -> str:
        resolve_config(None, str(case / "a.yaml"), {})
        return "read"

    return lambda rng: {"a.yaml": hostile_yaml(rng, fields)}, read, ""


def run(given: Path):
    """The JSON files of a run folder: its config, its rows and its results."""
    from runs import hostile_run, read_run

    import moco_tf.reporting  # noqa: F401 - what it imports reads files of its own

    return hostile_run, read_run, ""


def checkpoint(given: Path):
    """Two checkpoints of a run, the newer one hostile."""
    import numpy as np
    from tensors import checkpoint as whole
    from tensors import hostile_checkpoint

    from moco_tf import checkpoint as package

    arrays = {"queue": np.ones((4, 3), np.float32), "queue_pointer": np.array(2, np.int64)}
    older = whole(arrays, "3", '{"epoch": 1}')

    def make(rng):
        newer = hostile_checkpoint(rng, arrays, {"epoch": 1, "position": [1, {"a": 2}]})
        if rng.random() < 0.1:
            return {
                "step-00000007.safetensors": newer,
                "step-00000003.safetensors": broken(rng, older),
            }
        return {"step-00000007.safetensors": newer, "step-00000003.safetensors": older}

    def read(case: Path) -> str:
        package.load_latest(case, warn=lambda _: None)
        package.load(case / "step-00000007.safetensors")
        return "read"

    return make, read, ""


def progress(given: Path):
    """What a run or a probe goes on from: a checkpoint with right digests and any fields."""
    from dataclasses import asdict

    import numpy as np
    from tensors import checkpoint as whole
    from texts import hostile_json

    from moco_tf import checkpoint as package
    from moco_tf.evaluate import training
    from moco_tf.progress import progress_of
    from moco_tf.train import Progress

    kinds = {"a": Progress, "b": training.Progress}
    arrays = {"queue": np.ones((4, 3), np.float32)}

    def make(rng):
        name = rng.choice(list(kinds))
        text = hostile_json(rng, asdict(kinds[name](step=7)))
        return {f"{name}.safetensors": whole(arrays, "7", text.decode("utf-8", "replace"))}

    def read(case: Path) -> str:
        path = next(case.iterdir())
        _, step, extra = package.load(path)
        progress_of(kinds[path.stem], extra, step=step, folder=case)
        return "read"

    return make, read, ""


def encoder(given: Path):
    """An encoder in one file, whose config may not be that of its arrays."""
    from encoders import built, encoder_arrays, encoder_extra
    from tensors import hostile_checkpoint

    from moco_tf.evaluate.features import load_encoder

    arrays, extra = encoder_arrays("ours"), encoder_extra()
    built()

    def read(case: Path) -> str:
        load_encoder(case / "a.safetensors", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.safetensors": hostile_checkpoint(rng, arrays, extra)}, read, ""


def converted(given: Path):
    """Arrays with PyTorch's names in a safetensors file, of an encoder that may not be."""
    from encoders import built, encoder_arrays
    from tensors import hostile_safetensors

    from moco_tf.convert.reading import read_source

    arrays = encoder_arrays("torch")
    built()

    def read(case: Path) -> str:
        read_source(case / "a.safetensors", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.safetensors": hostile_safetensors(rng, arrays)}, read, ""


def torch(given: Path):
    """PyTorch's files, zipped and of the older kind, and pickles of others."""
    if not importlib.util.find_spec("torch"):
        return None, None, "torch is not installed"
    from encoders import built
    from torch_files import hostile_torch, whole_torch

    from moco_tf.convert.reading import read_source

    whole = whole_torch()
    built()

    def read(case: Path) -> str:
        read_source(case / "a.pth", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.pth": hostile_torch(rng, whole)}, read, ""


def itself(given: Path):
    """No reader, but all that the watchers must notice: for their own test."""
    import os
    import pickle

    from moco_tf.errors import InputError

    held = []
    outside = given.parent / "outside" / "ran"

    def refuse(message: str):
        raise InputError(message)

    harms = {
        "a line": lambda: refuse("epochs must be at least 1"),
        "an exception": lambda: held[1],
        "an end": os.abort,
        "a hang": lambda: [None for _ in iter(int, 1)],
        "memory": lambda: held.append(b"x" * int(2.2 * 2**30)),
        "a file": lambda: outside.write_text("x"),
        "a reading": lambda: Path("/etc/hostname").read_bytes(),
        "a program": lambda: os.system("true"),
        "a pickle": lambda: pickle.loads(b"cos\ngetcwd\n)R."),
    }

    def read(case: Path) -> str:
        held.clear()
        harms[(case / "a").read_text()]()
        return "read"

    return lambda rng: {"a": list(harms)[int(rng.number) % len(harms)].encode()}, read, ""


READERS = {
    function.__name__.replace("_", "."): function
    for function in (image, folder, data_npz, trace, pack, packing, yaml, run, checkpoint, progress)
} | {function.__name__: function for function in (encoder, converted, torch)}
ALL = READERS | {"itself": itself}
