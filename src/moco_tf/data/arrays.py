"""Images in memory: arrays, of an .npz file or given, and their labels by number."""

import hashlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.images import UNKNOWN, Images
from moco_tf.data.looks import looks
from moco_tf.errors import InputError
from moco_tf.files.npz import read_npz


def from_arrays(
    name: str, images: np.ndarray, labels=None, class_names=(), *, split: str = "train"
) -> Images:
    """Images in memory: uint8 [n, h, w, 3] (or [n, h, w] and [n, h, w, 1], gray).

    Args:
        labels: integers or text [n]; class i is `class_names[i]`, and -1 is unknown.
        class_names: none: the values that occur in `labels`, sorted.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"data={name}: images must be uint8 [n, h, w, 3] or [n, h, w]; received "
            f"{images.dtype} {list(images.shape)}."
        )
    if not images.size:
        raise InputError(f"data={name} holds no images (its array is {list(images.shape)}).")
    images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images[..., :3]
    if labels is not None:
        labels, class_names = numbered(name, labels, len(images), tuple(class_names))
    with tf.device("CPU:0"):
        held = tf.constant(images)
    sizes = np.broadcast_to(np.array(images.shape[1:3], np.int32), (len(images), 2))
    return Images(
        name,
        len(images),
        lambda i: held[i],
        False,
        images,
        labels,
        tuple(class_names),
        sizes=sizes,
        looks=looks(images),
        identity=hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
        split=split,
    )


def numbered(name, labels, count, class_names) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as places in `class_names`, int64 [n], and those names as text."""
    labels = np.asarray(labels).reshape(-1)
    if labels.dtype.kind not in "iuU":
        raise InputError(
            f"data={name}: labels must be integers or text; received {labels.dtype} "
            f"{labels[:3].tolist()}."
        )
    if len(labels) != count:
        raise InputError(
            f"data={name}: there are {len(labels)} labels for {count} images. Give one for "
            f"each image."
        )
    values = labels.astype(str)
    known = class_names or tuple(np.unique(labels).astype(str).tolist())
    numbers = {str(UNKNOWN): UNKNOWN} | {value: number for number, value in enumerate(known)}
    strange = sorted(set(values.tolist()) - set(numbers))
    if strange:
        raise InputError(
            f"data={name} has the test label {strange[0]!r}, which no training image has."
        )
    return np.array([numbers[value] for value in values.tolist()], np.int64), known


def open_npz(path: Path) -> tuple[Images, Images | None]:
    """Returns the training and the test images of an .npz file."""
    arrays = read_npz(path, "a set of images")
    images = arrays.get("images", arrays.get("x_train"))
    if images is None:
        raise InputError(
            f"data={path} must hold an array 'images' or 'x_train'; it holds {sorted(arrays)}."
        )
    train = from_arrays(path.name, images, arrays.get("labels", arrays.get("y_train")))
    if "x_test" not in arrays:
        return train, None
    test_labels = arrays.get("y_test") if train.labels is not None else None
    classes = train.class_names
    return train, from_arrays(path.name, arrays["x_test"], test_labels, classes, split="test")
