"""A set of images that are read by index, and whether they are large enough for a crop."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from moco_tf.data.failures import LEFT_OUT
from moco_tf.data.looks import SHOWS, looks_line
from moco_tf.errors import InputError

SMALLEST_CROP = 8  # pixels
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
    names: Callable[[int], str] | None = None  # of images that are no files, for messages
    sampled_sizes: np.ndarray | None = None  # int32 [m, 2], of some images, where `sizes` is none
    mend: str = LEFT_OUT  # what to do about an unreadable image

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

    def name_of(self, index: int) -> str:
        """What the image at `index` is called in a message."""
        if self.files is not None:
            return self.files[index]
        return self.names(int(index)) if self.names else f"number {index}"

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
            names=lambda place: self.name_of(int(indices[place])),
            identity=chosen.hexdigest(),
        )


def labelled_indices(images: Images) -> np.ndarray:
    """Returns the indices of the images whose label is known, ascending: int64 [n]."""
    return np.flatnonzero([] if images.labels is None else images.labels >= 0)


def check_sizes(
    images: Images, image_size: int, max_small_images: float, smallest: int = SMALLEST_CROP
) -> None:
    """Raises `InputError` if more than a share of the images are smaller than the crop.

    Up to that share they are enlarged, as torchvision does: ImageNet holds some.

    Args:
        smallest: crop that the encoder's stem takes.
    """
    sizes = images.sampled_sizes if images.sizes is None else images.sizes
    if sizes is None:
        return
    small, count = np.flatnonzero(sizes.min(axis=1) < image_size), len(sizes)
    if len(small) <= max_small_images * count:
        return
    height, width = sizes[small[0]]
    allowed = int(np.sort(sizes.min(axis=1))[int(max_small_images * count)])
    looked_at = "" if images.sizes is not None else " that were looked at"
    stem = " --stem small" if allowed < smallest else ""
    smaller_crop = f"--image-size {allowed}{stem}, or " if allowed >= SMALLEST_CROP else ""
    raise InputError(
        f"data: {len(small)} of {count} images of {images.name}{looked_at} are smaller than the "
        f"crop (the first is {width} x {height}); received image_size={image_size}. Use "
        f"{smaller_crop}--max-small-images 1 to enlarge them."
    )
