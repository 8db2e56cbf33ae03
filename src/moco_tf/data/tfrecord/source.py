"""TFRecord files of `tf.train.Example`, as they are, opened as images that are read by index."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from moco_tf.data.images import UNKNOWN, Images
from moco_tf.data.sample import with_sample
from moco_tf.data.tfrecord.index import Index, open_index
from moco_tf.data.tfrecord.reading import record_reader
from moco_tf.data.tfrecord.shards import Shards, list_shards
from moco_tf.files.store import cache_folder

MEND = "Write that record again, or leave it out of the shards."


def open_records(
    data: str,
    max_bad_images: float,
    split: str | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Images, Images | None]:
    """Returns the training images and the test images (or None) of `tfrecord:PATTERN`.

    The index is kept in the user's cache. Some images are decoded, see `with_sample`.

    Raises:
        InputError: what `list_shards` and `open_index` raise, or unreadable images.
    """
    shards = list_shards(data, split)
    train_index = open_index(shards.train, shards.keys, cache_folder(), told)
    names = _names(train_index)
    train = _images(data, shards, shards.train, train_index, names, max_bad_images)
    train = replace(train, split="train", passed_over=shards.passed_over)
    if not shards.test:
        return train, None
    test_index = open_index(shards.test, shards.keys, cache_folder(), told)
    test_index = _renumbered(test_index, train_index)
    test = _images(data, shards, shards.test, test_index, names, max_bad_images)
    strange = sorted({*np.unique(test_index.labels).tolist()} - {UNKNOWN, *names})
    if strange and train.labels is not None:
        why = f"{shards.split} has the label {_name(test_index, strange[0])}, train has not"
        test = replace(test, labels=None, why_unlabelled=why)
    return train, replace(test, split=shards.split)


def _images(
    data: str,
    shards: Shards,
    paths: Sequence[Path],
    index: Index,
    names: dict[int, str],
    max_bad_images: float,
) -> Images:
    known = np.array(sorted(names), np.int64)  # labels of the training part
    places = np.searchsorted(known, index.labels) if len(known) else np.zeros_like(index.labels)
    found = np.isin(index.labels, known)
    rows = {"shard": index.shards, "offset": index.offsets, "length": index.lengths}
    ends = np.cumsum(index.counts)

    def name_of(place: int) -> str:
        shard = int(np.searchsorted(ends, place, side="right"))
        return f"record {place - int(ends[shard] - index.counts[shard])} of {paths[shard]}"

    content = json.dumps([list(map(str, paths)), index.stamps])
    images = Images(
        name=data,
        count=len(index.offsets),
        read=record_reader(lambda number: paths[number], rows, "copy the shard again"),
        encoded=True,
        labels=np.where(found, places, UNKNOWN) if len(known) else None,
        class_names=tuple(names[label] for label in known.tolist()),
        why_unlabelled="" if len(known) else f"no record has {shards.keys.label}",
        identity=hashlib.sha256(index.lengths.astype("<i8").tobytes()).hexdigest(),
        content=hashlib.sha256(content.encode()).hexdigest(),
        names=name_of,
        mend=MEND,
    )
    return with_sample(images, max_bad_images)


def _names(index: Index) -> dict[int, str]:
    """A name for each label that occurs, no two alike: ImageNet has two classes "crane"."""
    labels = [label for label in np.unique(index.labels).tolist() if label != UNKNOWN]
    names = {label: _name(index, label) for label in labels}
    alike = Counter(names.values())
    return {k: f"{name} ({k})" if alike[name] > 1 else name for k, name in names.items()}


def _renumbered(index: Index, train: Index) -> Index:
    """Labels that are texts get the numbers that they have in the training part."""
    if not train.by_text and not index.by_text:
        return index
    numbers = {text: number for number, text in train.texts.items()}
    beyond = int(train.labels.max()) + 1
    new = {text: beyond + old for old, text in index.texts.items()} | numbers
    table = {old: new[text] for old, text in index.texts.items()} | {UNKNOWN: UNKNOWN}
    labels = np.array([table.get(label, UNKNOWN) for label in index.labels.tolist()], np.int64)
    return replace(index, labels=labels, texts={new[text]: text for text in index.texts.values()})


def _name(index: Index, label: int) -> str:
    return index.texts.get(label, str(label))
