"""A random-access source, an object with a length and items, opened as images.

Its items are images, pairs (image, label), or mappings with `image` and perhaps `label`. An image
is uint8 [h, w, 3] (or gray, or with alpha), Pillow's, encoded bytes, or the path of a file.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from moco_tf.data.arrays import numbered
from moco_tf.data.decode import MOST_BYTES, decode
from moco_tf.data.images import UNKNOWN, Images
from moco_tf.data.pillow import pixels_of
from moco_tf.data.sample import with_sample
from moco_tf.data.stream import CORES
from moco_tf.data.telling import telling
from moco_tf.errors import InputError

MEND = "Mend that item, or leave it out of the source."
TOLD_EVERY = 5.0  # seconds
CHUNK = 1024  # items whose labels are read at a time


def open_source(
    source: Any,
    name: str,
    max_bad_images: float,
    labels: Any,
    classes: tuple[str, ...],
    split: str,
    told: Callable[[str], None] = lambda _: None,
) -> Images:
    """Returns the images of a source, read by index in threads.

    Some items are looked at, see `with_sample`; all of them for their labels, if they have any and
    the source does not give these alone, as Hugging Face's column and torchvision's `targets`.

    Args:
        labels: of all items; none: those of the source.
        classes: names that the labels must be among; none: those that occur.

    Raises:
        InputError: the source is empty, its length changes, or an item is no image.
    """
    items = _Items(_undecoded(source), name)
    images = Images(
        name,
        items.count,
        items.read_in_graph,
        items.encoded,
        split=split,
        names=lambda index: f"item {index} of {name}",
        mend=MEND,
    )
    images = with_sample(images, max_bad_images)
    known: tuple[str, ...] = ()
    if labels is None:
        labels, known = items.labels(told)
    if labels is None:
        return images
    numbers, names = numbered(name, labels, items.count, classes or known)
    return replace(images, labels=numbers, class_names=names)


class _Items:
    """The items of a source, from any thread. `encoded`: whether an image is bytes, or pixels."""

    def __init__(self, source: Any, name: str):
        self.source, self.name, self.loading = source, name, threading.Lock()
        self.count = 0
        try:
            self.count = len(source)
            if self.count > 0:
                self.encoded = isinstance(self.stored(self.item(0)[0]), bytes)
        except Exception as error:  # the source's own
            place = "item 0" if self.count else "its length"
            raise InputError(f"data={name}: {place}: {_said(error)}. {MEND}") from None
        if self.count < 1:
            raise InputError(f"data={name} holds no images: its length is {self.count}.")

    def item(self, index: int) -> tuple[Any, Any]:
        """The image and the label (or None) of an item, as the source gives them."""
        if (now := len(self.source)) != self.count:
            raise ValueError(f"the length of the source changed from {self.count} to {now}")
        item = self.source[index]
        if isinstance(item, Mapping):
            if "image" not in item:
                raise ValueError(f"it has no 'image'; its keys are {sorted(map(str, item))[:10]}")
            return item["image"], item.get("label")
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        return (item[0], item[1]) if pair else (item, None)

    def stored(self, image: Any) -> bytes | np.ndarray:
        """Encoded bytes, or uint8 [h, w, 3]."""
        if isinstance(image, Mapping):  # of Hugging Face, not decoded
            image = image.get("path") if image.get("bytes") is None else image["bytes"]
        if isinstance(image, (bytes, bytearray, memoryview)):
            return bytes(image)
        if isinstance(image, (str, os.PathLike)):
            if os.path.getsize(image) > MOST_BYTES:
                raise ValueError(f"{image} has more than {MOST_BYTES} bytes")
            return Path(image).read_bytes()
        if isinstance(image, Image.Image):
            if isinstance(self.source, (list, tuple)):  # it may be of a file, and read just now
                with self.loading:
                    image.load()
            return pixels_of(image)
        several = isinstance(image, (tuple, list))
        array = np.asarray(None if several else image.numpy() if hasattr(image, "numpy") else image)
        if array.ndim == 0 and isinstance(array.item(), bytes):
            return array.item()
        array = array[..., None] if array.ndim == 2 else array
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
            what = f"{array.dtype} {list(array.shape)}" if array.ndim else type(image).__name__
            raise ValueError(
                f"it is not an image but {what}; give uint8 [h, w, 3], a PIL image, encoded bytes "
                f"or a path"
            )
        if not array.size:
            raise ValueError(f"it is an empty array, {list(array.shape)}")
        return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]

    def read(self, index) -> bytes | np.ndarray:
        """The image at `index` in the one form that all have; fails with what the source said."""
        try:
            stored = self.stored(self.item(int(index))[0])
            if self.encoded == isinstance(stored, bytes):
                return stored
            if isinstance(stored, bytes):
                return decode(tf.constant(stored)).numpy()
            file = io.BytesIO()
            Image.fromarray(stored).save(file, "PNG")
            return file.getvalue()
        except MemoryError:
            raise
        except Exception as error:  # the source's own
            raise tf.errors.DataLossError(None, None, _said(error)) from None

    def read_in_graph(self, index):
        kind, shape = (tf.string, []) if self.encoded else (tf.uint8, [None, None, 3])
        read = tf.numpy_function(self.read, [index], kind, stateful=False)
        return tf.ensure_shape(read, shape)

    def labels(self, told: Callable[[str], None]) -> tuple[Any, tuple[str, ...]]:
        """The labels of all items, and the names of classes where the source has them."""
        source = self.source
        if self.item(0)[1] is None:
            return None, ()
        if hasattr(source, "select_columns"):  # Hugging Face's
            names = getattr(source.features["label"], "names", None)
            labels = source.select_columns(["label"]).with_format(None)[:]["label"]
        elif hasattr(source, "targets") and len(source.targets) == self.count:  # torchvision's
            names, labels = getattr(source, "classes", None), list(source.targets)
        else:
            names, labels = None, self._labels_of_items(told)
        values = [UNKNOWN if label is None else _plain(label) for label in labels]
        if any(isinstance(value, str) for value in values):
            return np.array([str(value) for value in values]), ()
        if names and set(map(str, values)) <= {str(UNKNOWN), *map(str, range(len(names)))}:
            texts = [*map(str, names), str(UNKNOWN)]  # -1 is the last
            return np.array([texts[value] for value in values]), tuple(texts[:-1])
        return np.array(values), ()

    def _labels_of_items(self, told: Callable[[str], None]) -> list[Any]:
        labels: list[Any] = []
        tell = telling(told, TOLD_EVERY)
        with ThreadPoolExecutor(CORES) as threads:
            for first in range(0, self.count, CHUNK):
                places = range(first, min(first + CHUNK, self.count))
                labels += threads.map(self._label, places)
                tell(f"the labels of {len(labels)} of {self.count} items read")
        return labels

    def _label(self, index: int) -> Any:
        try:
            return self.item(index)[1]
        except Exception as error:  # the source's own
            raise InputError(f"data={self.name}: item {index}: {_said(error)}. {MEND}") from None


def _undecoded(source: Any) -> Any:
    """A Hugging Face data set that gives images as they are stored: no format, no transform."""
    feature: Any = (getattr(source, "features", None) or {}).get("image")
    if not hasattr(source, "cast_column") or getattr(feature, "decode", None) is None:
        return source
    plain = source.format["type"] is None
    return source.cast_column("image", type(feature)(decode=False)) if plain else source


def _plain(label: Any) -> Any:
    """A label as a number or a text of Python."""
    value = np.asarray(label.numpy() if hasattr(label, "numpy") else label)
    item = value.item() if value.size == 1 else label
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else item


def _said(error: Exception) -> str:
    """What an error says, in one line, with its class unless it is one of ours."""
    text = " ".join(str(error).split())[:300]
    return text if type(error) is ValueError else f"it raised {type(error).__name__}: {text}"
