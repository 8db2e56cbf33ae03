"""What `--data` can name, opened as images that are read by index."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from moco_tf.data.image_folder import open_folder
from moco_tf.data.listing import split_kind
from moco_tf.data.looks import SHOWS, looks, looks_line
from moco_tf.data.pack.read import open_pack
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.shapes import CLASS_NAMES, draw_shapes
from moco_tf.data.source_kind import source_kind
from moco_tf.errors import InputError
from moco_tf.files.npz import read_npz
from moco_tf.files.store import is_url

SHAPES_TRAIN, SHAPES_TEST = 4096, 1024
NAMED = ("shapes", "cifar10", "cifar100")  # sources that a folder of this name does not hide
TFDS = "tfds:"
SMALLEST_CROP = 8  # pixels
TEST_SEED = 2**31  # added to the seed: test images are never training images
UNKNOWN = -1  # the label of an image without one


@dataclass(frozen=True)
class Images:
    """A set of images. `read` takes an index and gives encoded bytes, or uint8 [h, w, 3]."""

    name: str
    count: int
    read: Callable[[tf.Tensor], tf.Tensor]
    encoded: bool
    pixels: np.ndarray | None = None  # uint8 [count, h, w, 3], of images in memory
    labels: np.ndarray | None = None  # int64 [count], -1 where unknown; none: no image has one
    class_names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None  # of the files, below the folder; as the system has them
    sizes: np.ndarray | None = None  # int32 [count, 2]: height and width, where known
    looks: np.ndarray | None = None  # int32 [count]: which show nothing, see `look`; where known
    identity: str = ""  # changes with the images or their order
    content: str = ""  # changes with any byte of the images, where that is known without reading
    why_unlabelled: str = ""  # why a folder has no classes, or a test part not those of training
    split: str = ""  # what the part is called where it comes from
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that are no images, by kind
    passed_over: tuple[str, ...] = ()  # parts that neither training nor evaluation uses

    def __post_init__(self) -> None:
        """A label of -1 is unknown, and so is the label of a class called "-1"."""
        labels, names = self.labels, self.class_names
        if labels is None:
            return
        if str(UNKNOWN) in names:
            place = names.index(str(UNKNOWN))
            labels = np.where(labels == place, UNKNOWN, labels - (labels > place))
            object.__setattr__(self, "class_names", names[:place] + names[place + 1 :])
        object.__setattr__(self, "labels", labels if (labels >= 0).any() else None)

    def smaller_than(self, side: int) -> np.ndarray:
        """Indices of the images whose height or width is less than `side` pixels: int64 [n]."""
        if self.sizes is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.sizes.min(axis=1) < side)

    def skipped_line(self, kind: str = "") -> str:
        """Says which files were left out as unreadable; empty if none was."""
        shown = ", ".join(self.skipped[:3]) + (" ..." if len(self.skipped) > 3 else "")
        return f"skipped {len(self.skipped)} unreadable {kind}images: {shown}" if shown else ""

    def looks_line(self, kind: str = "") -> str:
        """Says how many images are black or of one colour; empty if none is known to be."""
        return looks_line(self.looks, self.files, kind)

    @property
    def blank_share(self) -> float:
        """Share of the images that are known to be black or of one colour."""
        return 0.0 if self.looks is None else float(np.mean(self.looks != SHOWS))

    def subset(self, indices: np.ndarray) -> "Images":
        """The images at `indices`, int64 [n], in that order."""
        with tf.device("CPU:0"):
            table = tf.constant(indices, tf.int64)
        chosen = hashlib.sha256(self.identity.encode() + np.asarray(indices, "<i8").tobytes())
        return replace(
            self,
            count=len(indices),
            read=lambda place: self.read(table[place]),
            pixels=None,
            labels=None if self.labels is None else self.labels[indices],
            files=None if self.files is None else tuple(self.files[i] for i in indices),
            paths=None if self.paths is None else tuple(self.paths[i] for i in indices),
            sizes=None if self.sizes is None else self.sizes[indices],
            looks=None if self.looks is None else self.looks[indices],
            identity=chosen.hexdigest(),
        )


def labelled_indices(images: Images) -> np.ndarray:
    """Returns the indices of the images whose label is known, ascending: int64 [n]."""
    return np.flatnonzero([] if images.labels is None else images.labels >= 0)


def open_images(
    data: str,
    *,
    max_bad_images: float = 0.01,
    seed: int = 0,
    image_size: int = 32,
    cache: Path | None = None,
    split: Literal["val", "test"] | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Images, Images | None]:
    """Returns (training images, test images or None).

    Args:
        data: folder, pack (or its URL), .npz file, "cifar10", "cifar100", "tfds:NAME", "shapes".
        max_bad_images: largest share of unreadable files that are skipped.
        seed: draws the shapes.
        image_size: side of the shapes, pixels.
        cache: for a folder, see `open_folder`.
        split: which part of `data` the test images are; none: val if there is one, or else test.
        told: of a folder, see `open_folder`.

    Raises:
        InputError: nothing there, nothing readable, more unreadable than allowed, no such part.
    """
    path = copy_pack(data) if is_url(data) else Path(os.path.expanduser(data))
    if data == "shapes":
        train = _shapes(seed, SHAPES_TRAIN, image_size, "train")
        test: Images | None = _shapes(seed + TEST_SEED, SHAPES_TEST, image_size, "test")
    elif data in ("cifar10", "cifar100"):
        train, test = _cifar(data)
    elif data.startswith(TFDS):
        train, test = _tfds(data.removeprefix(TFDS), split)
    elif (kind := source_kind(data, path)) == "npz":
        train, test = _npz(path)
    else:
        packed = kind == "pack"
        parts = open_pack(path) if packed else open_folder(path, max_bad_images, cache, split, told)
        train, test = Images(**parts[0]), Images(**parts[1]) if parts[1] else None
    if split and (test is None or split_kind(test.split) != split):
        has = f"; its test images are those of {test.split}" if test and test.split else ""
        raise InputError(
            f"data={data} has no part known as {split}{has}; received split={split}. Leave --split "
            f"out."
        )
    return train, test


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
        labels, class_names = _numbered(name, labels, len(images), tuple(class_names))
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


def _numbered(name, labels, count, class_names) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as places in `class_names`, int64 [n], and those names as text."""
    labels = np.asarray(labels).reshape(-1)
    if labels.dtype.kind not in "iuU":
        raise InputError(
            f"data={name}: labels must be integers or text; received {labels.dtype} "
            f"{labels[:3].tolist()}."
        )
    if len(labels) != count:
        raise InputError(
            f"data={name}: there are {len(labels)} labels for {count} images. Give one an image."
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


def check_sizes(
    images: Images, image_size: int, max_small_images: float, smallest: int = SMALLEST_CROP
) -> None:
    """Raises `InputError` if more than a share of the images are smaller than the crop.

    Up to that share they are enlarged, as torchvision does: ImageNet holds some.

    Args:
        smallest: crop that the encoder's stem takes.
    """
    small = images.smaller_than(image_size)
    if len(small) <= max_small_images * images.count or images.sizes is None:
        return
    height, width = images.sizes[small[0]]
    allowed = int(np.sort(images.sizes.min(axis=1))[int(max_small_images * images.count)])
    stem = " --stem small" if allowed < smallest else ""
    smaller_crop = f"--image-size {allowed}{stem}, or " if allowed >= SMALLEST_CROP else ""
    raise InputError(
        f"data: {len(small)} of {images.count} images of {images.name} are smaller than the crop "
        f"(the first is {width} x {height}); received image_size={image_size}. Use "
        f"{smaller_crop}--max-small-images 1 to enlarge them."
    )


def _shapes(seed, count, size, split):
    images, labels = draw_shapes(seed, np.arange(count), size)
    return from_arrays("shapes", images, np.array(CLASS_NAMES)[labels], CLASS_NAMES, split=split)


def _npz(path):
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


def _cifar(name):
    import keras

    loader: Any = getattr(keras.datasets, name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras says there that it downloads
            (x_train, y_train), (x_test, y_test) = loader.load_data()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"data={name} could not be downloaded ({reason}). Give the folder of a local copy "
            f"instead, with train/ and test/."
        ) from None
    train = from_arrays(name, x_train, y_train)
    return train, from_arrays(name, x_test, y_test, train.class_names, split="test")


def _tfds(name, split):
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(f"data=tfds:{name} needs an extra: pip install 'moco-tf[tfds]'.") from None
    try:
        # Of its formats array_record can be read by index.
        with contextlib.redirect_stdout(sys.stderr):
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
        if "train" not in builder.info.splits:
            raise InputError(f"data=tfds:{name} has no split named train.")
        wanted = [s for s in ("validation", "test") if split in (None, split_kind(s))]
        tests = [s for s in wanted if s in builder.info.splits][:1]
        parts = [_tfds_split(tfds, builder, s) for s in ["train", *tests]]
        others = sorted(set(builder.info.splits) - {"train", *tests})
        parts[0] = replace(parts[0], passed_over=tuple(others))
    except InputError:
        raise
    except Exception as error:  # a download, a manual step, a format: many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"data=tfds:{name} could not be opened: {reason}") from None
    return parts[0], parts[1] if len(parts) > 1 else None


def _tfds_split(tfds, builder, split):
    features = builder.info.features
    if "image" not in features:
        raise InputError(f"data=tfds:{builder.name} has no feature named image.")
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    labels, class_names = None, ()
    if "label" in features and isinstance(features["label"], tfds.features.ClassLabel):
        labels = np.array([row["label"] for row in source], np.int64)
        class_names = tuple(features["label"].names)

    def read(index):
        encoded = tf.numpy_function(
            lambda i: source[int(i)]["image"], [index], tf.string, stateful=False
        )
        return tf.ensure_shape(encoded, [])

    return Images(
        f"tfds:{builder.name}",
        len(source),
        read,
        True,
        labels=labels,
        class_names=class_names,
        split=split,
    )
