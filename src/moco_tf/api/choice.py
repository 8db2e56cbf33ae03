"""What `pretrain` starts from where no recipe is named: a run that is there, or the data decide.

Images are counted, and a few headers are read; none is decoded.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from moco_tf.api import starting
from moco_tf.config import Config, data_from_here, make_config
from moco_tf.data.file_names import joined
from moco_tf.data.file_set import file_set
from moco_tf.data.listing import SPLITS, spread
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.source_kind import PACK_INDEX, pair_of, part_of, source_kind
from moco_tf.files.store import is_url
from moco_tf.names.data import OBJECT, TFDS, is_records, is_there, paths_of
from moco_tf.recipes import DEFAULT_RECIPE, RECIPES
from moco_tf.runs.config_file import CONFIG, read_config
from moco_tf.runs.same_config import same_path
from moco_tf.runs.snapshot import images_of

# Images up to which a queue of 1024 keys is better than one of 65,536: with 10,000 images the long
# one holds the keys of over six epochs. Measured at 5,000: docs/results.md.
FEW_IMAGES = 10_000
SMALL_SIDE = 48  # pixels: CIFAR's 32 and what is near; from there on a stem of 7 x 7 / 2 has enough
SMALLEST_CROP = 8
SAMPLED = 16  # files whose size is looked at
TINY, FEW, MANY = "cifar10-demo", "small", "moco-v2"


class Seen(NamedTuple):
    """What is known of images that were not opened."""

    images: int | None = None
    side: int | None = None  # pixels: the shorter of an image's


def starting_point(
    given: Mapping[str, Any], *, runs: bool, say: Callable[[str], None], source: Any = None
) -> tuple[Config, str | None]:
    """Returns the config that `given` fields change, and the run folder that goes with it.

    A run in the folder `run_dir`, or in one that an earlier choice for the data made, goes on with
    its own settings, but for `max_steps`. None: no folder but what the recipe's name or `given`
    says.

    Args:
        runs: whether runs that are there count.
        say: called with a line on what was chosen and why.
        source: images in Python, in place of the field `data`.
    """
    run_dir, data = given.get("run_dir"), given.get("data")
    if source is not None:
        data = type(source).__name__
    if runs and isinstance(run_dir, str) and (Path(run_dir) / CONFIG).is_file():
        return _own(run_dir, data, say), run_dir
    if source is not None:
        seen: Seen | None = _look_at_source(source)
    else:
        seen = look(data) if isinstance(data, str) and data not in ("", DEFAULT_RECIPE) else None
    if seen is None:
        return RECIPES[DEFAULT_RECIPE].config, None
    recipe, why = choose(seen)
    folders = [f"runs/{_folder_name(str(data), name)}" for name in (recipe, TINY, FEW, MANY)]
    for folder in folders if runs and run_dir is None and source is None else ():
        there = read_config(folder) if (Path(folder) / CONFIG).is_file() else None
        if there and same_path((there.data, there.data_path), data):
            return _own(folder, data, say), folder
    config = RECIPES[recipe].config
    if recipe == TINY and (seen.side or config.image_size) < config.image_size:
        config = make_config(config, {"image_size": max(seen.side or 0, SMALLEST_CROP)})
    into = f", into {folders[0]}" if runs and run_dir is None else ""
    say(f"recipe {recipe}{into}: {data} {why}. A recipe that you name is taken instead")
    return config, folders[0]


def _own(run_dir: str, data: Any, say: Callable[[str], None]) -> Config:
    """The config of the run in `run_dir`, with the images where they are found from here."""
    config = read_config(run_dir)
    config = config.model_copy(update={"max_steps": None, "data": data_from_here(config)})
    if data is None:
        images_of(config, None, run_dir)  # raises if they are not there
    say(f"{run_dir} holds a run (recipe {config.recipe}), which goes on with its own settings")
    return config


CIFAR = Seen(50_000, 32)


def choose(seen: Seen) -> tuple[str, str]:
    """Returns the recipe for such images, and why, as a clause on them."""
    if seen.side is not None and seen.side < SMALL_SIDE:
        return TINY, f"has images of {seen.side} pixels"
    if seen.images is None:
        return MANY, "does not tell how many images it holds"
    if seen.images <= FEW_IMAGES:
        return FEW, f"holds {seen.images} images, no more than {FEW_IMAGES}"
    return MANY, f"holds {seen.images} images, more than {FEW_IMAGES}"


def look(data: str) -> Seen | None:
    """Returns what is known of `data` without opening it; None where there is no such thing.

    Raises:
        InputError: if it is a folder without images, or a damaged file.
    """
    if is_url(data) and not is_records(data):
        return _look_at_pack(copy_pack(data))
    if data.startswith(OBJECT) or not is_there(data):  # which is told when it is opened
        return None
    paths = paths_of(data)
    if not paths:
        return _look_at_tfds(data.removeprefix(TFDS)) if data.startswith(TFDS) else CIFAR
    kind = source_kind(data)
    if kind == "npz":
        return _look_at_arrays(paths[0])
    if kind == "pack":
        return _look_at_pack(paths[0])
    return _look_at_records(data) if kind == "tfrecord" else _look_at_files(paths)


def _look_at_pack(folder: Path) -> Seen:
    if not (folder / PACK_INDEX).is_file():  # unfinished, which is told when it is opened
        return Seen()
    starting.start_tensorflow()
    from moco_tf.data.pack.index import read_index

    index = read_index(folder / PACK_INDEX)
    return Seen(index.about.train.count, int(np.median(index.rows["sizes"].min(axis=1))))


def _look_at_records(data: str) -> Seen:
    """The index of the shards, which is kept for the training, and the sizes of some images."""
    starting.start_tensorflow()
    from moco_tf.data.sources import open_images

    train, _ = open_images(data)
    sizes = train.known_sizes
    return Seen(train.count, None if sizes is None else int(np.median(sizes.min(axis=1))))


def _look_at_files(paths: Sequence[Path]) -> Seen:
    found = file_set(paths)
    files = joined(found.root, [part.files for part in found.train])
    sides = []
    for place in spread(len(files), SAMPLED):
        try:
            with Image.open(files[place]) as image:
                sides.append(min(image.size))
        except Exception:  # not readable, which the training counts and tells
            continue
    return Seen(len(files), int(statistics.median(sides)) if sides else None)


def _look_at_arrays(file: Path) -> Seen:
    """The shape of the images in an .npz file, from the array's header."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            name = next(f"{n}.npy" for n in ("images", "x_train") if f"{n}.npy" in names)
            with archive.open(name) as array:
                version = np.lib.format.read_magic(array)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape = read(array)[0]
    except Exception:  # no archive, or none of images: told when it is opened
        return Seen()
    return Seen(shape[0], min(shape[1:3])) if len(shape) in (3, 4) else Seen()


def _look_at_source(source: Any) -> Seen:
    """The number of images to train on, and of an array [n, h, w] or [n, h, w, c] the size."""
    if isinstance(source, Mapping):
        part = part_of(source, SPLITS["train"])
        source = None if part is None else source[part]
    source, _ = pair_of(source)
    try:
        count = len(source)
    except TypeError:  # told when it is opened
        return Seen()
    shape = getattr(source, "shape", ())
    return Seen(count, min(shape[1:3]) if len(shape) in (3, 4) else None)


def _look_at_tfds(name: str) -> Seen:
    starting.start_tensorflow()
    try:
        import tensorflow_datasets as tfds

        with contextlib.redirect_stdout(sys.stderr):
            info = tfds.builder(name).info
        sides = [side for side in info.features["image"].shape[:2] if side]
        count = info.splits["train"].num_examples
    except Exception:  # no such set, or a network that is down: told when it is opened
        return Seen()
    return Seen(count, min(sides, default=None))


def _folder_name(data: str, recipe: str) -> str:
    """What a run folder is called after its data and recipe."""
    paths = paths_of(data)
    paths = tuple(path.parent for path in paths[:1]) if is_records(data) else paths
    parts = [re.sub(r"\.(npz|txt)$", "", path.resolve().name) for path in paths]
    name = "-".join(parts) or data.removeprefix(TFDS)
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
    return recipe if recipe.startswith(f"{name}-") else f"{name}-{recipe}"
