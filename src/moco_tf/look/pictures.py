"""The images of a set that a look before training takes, and what is known of all of them."""

from __future__ import annotations

import os
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.file_names import FileNames, joined, shown
from moco_tf.data.file_set import FileSet, file_set, set_of_paths
from moco_tf.data.found import found_lines, left_out
from moco_tf.data.image_folder import open_files
from moco_tf.data.listing import left_out_line, spread
from moco_tf.data.order import MOST_SORTED, StepOrder
from moco_tf.data.source_kind import source_kind
from moco_tf.data.sources import Images, open_images
from moco_tf.files.store import is_url
from moco_tf.names.data import paths_of

MOST_LOOKED_AT = 1000  # images that are decoded


@dataclass(frozen=True)
class Looked:
    """What is there to train on, and the part of it that was looked at."""

    count: int  # training images
    test_count: int
    classes: dict[str, int]  # training images of each; empty: there are no labels
    images: Images  # that can be read: all, or some of them
    places: np.ndarray  # int64 [n], evenly spread among `images`, that are to be decoded
    first: list[int]  # of the run's first images in their order, the places among `images`
    positions: list[int]  # their places in the run
    unreadable: tuple[str, ...]
    looked_at: int  # files or images among which those are
    left_out: dict[str, int]
    lines: list[str]


def look_at(config: Config, wanted: int, say: Callable[[str], None]) -> Looked:
    """Returns the images of `config.data`, of which at most `MOST_LOOKED_AT` are decoded.

    Unreadable ones are counted, however many there are.

    Args:
        wanted: how many of the run's first images are to be shown.

    Raises:
        InputError: nothing there, or nothing readable.
    """
    data, names = config.data, []
    if paths_of(data) and not is_url(data) and source_kind(data) in ("folders", "list"):
        found = file_set(paths_of(data))
        files = joined(found.root, [part.files for part in found.train])
        if len(files) > MOST_LOOKED_AT:
            return _some_files(config, found, files, wanted, say)
        names = list(map(shown, files))
        train, test = open_files(found, 1.0, say)
    else:
        train, test = open_images(
            data, max_bad_images=1.0, seed=config.seed, image_size=config.image_size, told=say
        )
    bad = [place for place, name in enumerate(names) if name in train.skipped]
    count = train.count + len(bad)
    run = StepOrder(config.seed, count, min(wanted, count), 1, unreadable=dict.fromkeys(bad, ""))
    run.keyed = _keyed(config, count)
    order = [place - bisect(bad, place) for place in run.of_step(0)[0].tolist()]
    return Looked(
        train.count,
        test.count if test else 0,
        _counts(train.labels, train.class_names),
        train,
        spread(train.count, MOST_LOOKED_AT),
        order,
        list(range(len(order))),
        train.skipped,
        train.count + len(train.skipped),
        left_out(train, test),
        found_lines(train, test),
    )


def _some_files(
    config: Config, found: FileSet, files: FileNames, wanted: int, say: Callable[[str], None]
) -> Looked:
    """Of many files: some, evenly spread, and the first of the run if every one can be read."""
    run = StepOrder(config.seed, len(files), wanted, 1, keyed=_keyed(config, len(files)))
    order = run.of_step(0)[0].tolist()
    chosen = sorted({*spread(len(files), MOST_LOOKED_AT).tolist(), *order})
    absolute = [Path(os.path.abspath(files[place])) for place in chosen]
    some = set_of_paths(absolute, config.data)
    images, _ = open_files(some, 1.0, say)
    there = {some.root / path: place for place, path in enumerate(images.paths or ())}
    seen = [n for n, p in enumerate(order) if Path(os.path.abspath(files[p])) in there]
    classes, why = found.classes()
    labels, _ = found.labels(found.train, classes)
    others: Counter[str] = sum((part.left_out for part in found.train + found.test), Counter())
    test_count = sum(len(part.files) for part in found.test)
    parts = f"{len(files)} training images" + (f", {test_count} test images" if test_count else "")
    known = f"{len(classes)} classes" if classes else f"no labels ({why})"
    passed = [f"passed over: {', '.join(found.passed_over)}"] if found.passed_over else []
    lines = [f"{parts}, {known}", *passed, left_out_line(others), images.skipped_line()]
    return Looked(
        len(files),
        test_count,
        _counts(labels, classes),
        images,
        np.arange(images.count),
        [there[Path(os.path.abspath(files[order[n]]))] for n in seen],
        seen,
        images.skipped,
        len(chosen),
        dict(others),
        [line for line in (*lines, images.looks_line()) if line],
    )


def _keyed(config: Config, count: int) -> bool:
    """Whether a run, be it new, shuffles so many images by a cipher."""
    return config.order == "keyed" or count > MOST_SORTED


def _counts(labels: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Images of each class, in the order of the classes."""
    if labels is None:
        return {}
    numbers, counts = np.unique(labels[labels >= 0], return_counts=True)
    named = [names[n] if n < len(names) else str(n) for n in numbers.tolist()]
    return dict(zip(named, counts.tolist(), strict=True))
