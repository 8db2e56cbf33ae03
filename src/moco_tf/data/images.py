"""A set of images that are read by index, and whether they are large enough for a crop."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.data.failures import LEFT_OUT
from moco_tf.data.looks import SHOWS, looks_line
from moco_tf.errors import InputError

SMALLEST_CROP = 8  # pixels
UNKNOWN = -1  # the label of an image without one


class Sample(NamedTuple):
    """What a look at some images of a set found."""

    places: np.ndarray  # int64 [m]: which of those that were looked at can be read
    sizes: np.ndarray  # int32 [m, 2], of these
    looks: np.ndarray  # int32 [m], of these
    bad: tuple[str, ...]  # names of the others, each with the reason


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
    files: Sequence[str] | None = None
    paths: Sequence[str] | None = None  # of the files, below the folder; as the system has them
    sizes: np.ndarray | None = None  # int32 [count, 2]: height and width, where known
    looks: np.ndarray | None = None  # int32 [count]: which show nothing, see `look`; where known
    identity: str = ""  # changes with the images or their order
    content: str = ""  # changes with any byte of the images, where that is known without reading
    why_unlabelled: str = ""  # why a folder has no classes, or a test part not those of training
    split: str = ""  # what the part is called where it comes from
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that are no images, by kind
    passed_over: tuple[str, ...] = ()  # parts that neither training nor evaluation uses
    names: Callable[[int], str] | None = None  # of images that are no files, for messages
    sample: Sample | None = None  # where not all were decoded
    unreadable: dict[int, str] | None = None  # met so far, for which others stand in; none: error
    max_bad: float | None = None  # share that is left out at most; none: others do stand in
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

    @property
    def readable(self) -> np.ndarray:
        """Indices of the images that were not met as unreadable: int64 [n], ascending."""
        return np.setdiff1d(np.arange(self.count), [*(self.unreadable or ())])

    @property
    def known_sizes(self) -> np.ndarray | None:
        """Of all images, or else of those in the sample: int32 [m, 2]."""
        return self.sample.sizes if self.sizes is None and self.sample else self.sizes

    @property
    def known_looks(self) -> np.ndarray | None:
        """As `known_sizes`: int32 [m]."""
        return self.sample.looks if self.looks is None and self.sample else self.looks

    def smaller_than(self, side: int) -> np.ndarray:
        """Indices of images whose height or width is known to be less than `side` pixels."""
        if self.known_sizes is None:
            return np.empty(0, np.int64)
        small = np.flatnonzero(self.known_sizes.min(axis=1) < side)
        return small if self.sizes is not None or not self.sample else self.sample.places[small]

    def skipped_line(self, kind: str = "") -> str:
        """Says which files were left out or found to be unreadable; empty if none was."""
        sample = self.sample if self.max_bad is None else None  # else all are read
        met = [self.name_of(place) for place in sorted(self.unreadable or ())]
        bad = sample.bad if sample else [*self.skipped, *met]
        shown = ", ".join(bad[:3]) + (" ..." if len(bad) > 3 else "")
        if not bad or not sample:
            return f"skipped {len(bad)} unreadable {kind}images: {shown}" if bad else ""
        seen = len(bad) + len(sample.places)
        return (
            f"{len(bad)} of {seen} {kind}images that were looked at cannot be read: {shown}; where "
            f"training meets one, it takes the next image of its order"
        )

    def looks_line(self, kind: str = "") -> str:
        """Says how many images are black or of one colour; empty if none is known to be."""
        if self.looks is None and self.sample:
            names = [self.name_of(int(place)) for place in self.sample.places]
            return looks_line(self.sample.looks, names, kind)
        return looks_line(self.looks, self.files, kind)

    @property
    def blank_share(self) -> float:
        """Share of the images that are known to be black or of one colour."""
        looks = self.known_looks
        return 0.0 if looks is None else float(np.mean(looks != SHOWS))

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
            sample=None,
            unreadable=None if self.unreadable is None else {},
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
    sizes = images.known_sizes
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
