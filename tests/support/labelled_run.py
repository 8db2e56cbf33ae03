"""A run with an untrained encoder, and few labelled pictures, for the judges."""

from types import SimpleNamespace

import numpy as np
from PIL import Image
from support.runs import V3
from support.runs import config as run_config

from moco_tf.config import Config
from moco_tf.models import build_encoder
from moco_tf.models.array_names import named_arrays
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.encoders import untrained_encoder

TRAIN, TEST, CLASSES, SIDE = 20, 9, 3, 8


def pictures(count, seed):
    """Noise around a level of gray that tells the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    level = 60 + 60 * labels[:, None, None, None]
    noise = generator.normal(0, 25, (count, SIDE, SIDE, 3))
    return (level + noise).clip(0, 255).astype(np.uint8), labels


def save_npz(path, **changes):
    arrays = {}
    for part, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = pictures(count, seed)
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def make_run(folder, data, image_size=SIDE):
    """A run folder with an untrained tiny encoder."""
    settings = {
        "image_size": image_size, "stem": "small", "width": 4, "head": "linear", "dim": 6,
        "group_size": 2, "group_layout": "contiguous", "running_statistics": "first_group",
    }  # fmt: skip
    run_folder.claim(folder, Config(data=data, encoder="resnet18", batch_size=4, **settings))
    encoder = build_encoder("resnet18", **settings, dtype="float32", seed=9)
    state = {
        "query_encoder/" + "/".join(v.path.split("/")[-2:]): v.numpy()
        for v in encoder.model.variables
    }
    checkpoint.save(run_folder.checkpoint_folder(folder), state, step=7, extra={})
    return SimpleNamespace(folder=str(folder), data=data, state=state)


def make_v3_run(folder, data, kind, **changes):
    """A run folder of MoCo v3 with an untrained tiny "resnet" or "vit"."""
    recipe, tiny = V3[kind]
    described = run_config(data, folder, recipe, tiny | changes)
    run_folder.claim(folder, described)
    arrays = named_arrays(untrained_encoder(described).model)
    state = {f"query_encoder/{name}": variable.numpy() for name, variable in arrays}
    checkpoint.save(run_folder.checkpoint_folder(folder), state, step=7, extra={})
    return SimpleNamespace(folder=str(folder), data=data)


def save_folder(root, seed=0, **parts):
    """JPEG files of odd sizes in PART/CLASS/, three a class, as gray as their class is late."""
    generator = np.random.default_rng(seed)
    for part, classes in parts.items():
        for label in classes:
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(3):
                level = 40 + 50 * (ord(label[0]) - ord("a"))
                size = (*generator.integers(SIDE, 3 * SIDE, 2), 3)
                pixels = (level + generator.normal(0, 9, size)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return str(root)
