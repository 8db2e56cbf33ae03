"""Files for TensorBoard's projector: points, what they are, and a picture of each.

`tensorboard --logdir FOLDER` shows them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from moco_tf.errors import InputError
from moco_tf.exporting.rows import Rows
from moco_tf.files.atomic import make_folder, write_atomically

MAX_POINTS = 10_000  # 100 x 100 thumbnails: 4800 pixels of the 8192 that TensorBoard takes
THUMBNAIL = 48  # side, pixels; that of smaller images is their own
CONFIG = "projector_config.pbtxt"
TENSORS, METADATA, SPRITE = "tensors.tsv", "metadata.tsv", "sprite.png"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises `InputError` if `folder` cannot take the files, or holds such already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"projector={folder} is a file. Give a folder.")
    there = [name for name in (CONFIG, TENSORS, METADATA, SPRITE) if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"projector={folder} holds {there[0]} already. Use another folder, or --overwrite."
        )


def evenly(count: int, limit: int) -> np.ndarray:
    """Returns at most `limit` indices among `count`, evenly spread: int64 [n], ascending."""
    kept = min(count, limit)
    return np.arange(kept) * count // kept


class Points:
    """Keeps the features and thumbnails of some rows while all of them pass by."""

    def __init__(self, count: int, image_size: int):
        """`count` images of `image_size` pixels a side will pass."""
        self.indices = evenly(count, MAX_POINTS)  # [n]
        self.side = min(THUMBNAIL, image_size)
        self.columns = math.isqrt(len(self.indices) - 1) + 1
        self._sheet = np.zeros((self.columns * self.side, self.columns * self.side, 3), np.uint8)
        self._features: list[np.ndarray] = []

    def with_thumbnails(self, batches: Iterable) -> Iterator:
        """Yields uint8 image batches [b, S, S, 3] as they are."""
        start = 0
        for batch in batches:
            for point in self._points(start, len(batch)):
                image = Image.fromarray(np.asarray(batch[int(self.indices[point]) - start]))
                top, left = (self.side * place for place in divmod(point, self.columns))
                small = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
                window = self._sheet[top : top + self.side, left : left + self.side]
                window[:] = np.asarray(small)
            start += len(batch)
            yield batch

    def with_features(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields feature batches [b, D] as they are."""
        start = 0
        for batch in batches:
            points = self._points(start, len(batch))
            self._features.append(batch[self.indices[points.start : points.stop] - start])
            start += len(batch)
            yield batch

    def _points(self, start: int, count: int) -> range:
        return range(*np.searchsorted(self.indices, [start, start + count]).tolist())

    def save(self, folder: Path, rows: Rows, name: str) -> None:
        """Writes the files, the one that names the others last.

        Args:
            rows: of all the images.
            name: of the tensor, as TensorBoard shows it.

        Raises:
            InputError: if the disk is full or the folder cannot be written to.
        """
        make_folder(folder)
        (folder / CONFIG).unlink(missing_ok=True)
        features = np.concatenate(self._features)  # [n, D]
        self.indices = self.indices[: len(features)]  # fewer pass if some cannot be read
        sprite = io.BytesIO()
        Image.fromarray(self._sheet).save(sprite, "PNG")
        for file, data in (
            (TENSORS, _tensors(features)),
            (METADATA, _metadata(rows, self.indices)),
            (SPRITE, sprite.getvalue()),
            (CONFIG, _config(name, features.shape, self.side)),
        ):
            write_atomically(folder / file, data)


def _tensors(features: np.ndarray) -> bytes:
    """Text, nine digits: TensorBoard takes raw bytes for text where they happen to look like it."""
    line = "\t".join(["%.9g"] * features.shape[1]) + "\n"
    return b"".join((line % tuple(row)).encode() for row in features.tolist())


def _metadata(rows: Rows, indices: np.ndarray) -> bytes:
    """One line a point under a header, which TensorBoard wants where there are several columns."""
    columns = {"name": rows.names, "split": rows.splits}
    if rows.labels is not None:
        columns["class"] = [name or "" for name in rows.class_names()]
    lines = ["\t".join(columns)]
    lines += ["\t".join(column[place] for column in columns.values()) for place in indices]
    return "".join(f"{line}\n" for line in lines).encode()


def _config(name: str, shape: tuple[int, ...], side: int) -> bytes:
    text = f"""embeddings {{
  tensor_name: "{name}"
  tensor_path: "{TENSORS}"
  tensor_shape: {shape[0]}
  tensor_shape: {shape[1]}
  metadata_path: "{METADATA}"
  sprite {{
    image_path: "{SPRITE}"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""
    return text.encode()
