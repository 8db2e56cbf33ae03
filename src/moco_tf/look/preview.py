"""A look at the images and at the views of a run before it starts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.building import build_making
from moco_tf.config import Config
from moco_tf.config.batch_groups import check_enough_images
from moco_tf.data.decode import UNREADABLE, decoded
from moco_tf.data.drawn import Drawn, drawn_for, drawn_lines
from moco_tf.data.sources import check_sizes
from moco_tf.distribute.strategy import default_devices
from moco_tf.errors import InputError
from moco_tf.look.hints import crop_facts, hints
from moco_tf.look.pictures import Looked, look_at
from moco_tf.look.preview_sheet import html_sheet, png_sheet
from moco_tf.look.survey import Survey, near_duplicates, survey
from moco_tf.report import page
from moco_tf.runs.objects import check_augment
from moco_tf.training.advice import suggestions
from moco_tf.training.facts import known_facts
from moco_tf.training.reporting import Reporter

SHOWN = 8  # images whose views are drawn
MOST_NAMED = 100  # unreadable files and pairs in a result


@dataclass(frozen=True)
class Row:
    """An image of the run's first ones, and both of its views."""

    name: str
    position: int  # in the run
    pixels: np.ndarray  # uint8 [h, w, 3]
    views: tuple[np.ndarray, np.ndarray]  # uint8 [S, S, 3]
    drawn: tuple[Drawn, Drawn]
    lines: tuple[list[str], list[str]]  # what was drawn, in words


def preview(config: Config, out: Path | None, reporter: Reporter) -> dict[str, Any]:
    """Returns what `moco-tf preview --json` prints; writes the sheet to `out`, .html or .png.

    The views are those of the run's first images, made by the code and with the seeds of training.

    Raises:
        InputError: nothing there, nothing readable, or `out` cannot be written.
    """
    started = time.perf_counter()
    check_augment(config, None)
    looked = look_at(config, SHOWN, reporter.line)
    surveyed = survey(looked.images, looked.places)
    if not len(surveyed.places):
        raise InputError(
            f"data={config.data}: none of {len(looked.places)} images that were looked at can be "
            f"read. {looked.images.mend}"
        )
    rows = view_rows(config, looked)
    result = _facts(config, looked, surveyed)
    result["views"] = [_shown(row) for row in rows]
    refused = refusals(config, looked, result["unreadable"])
    result["refused"] = refused
    result["advice"] = hints(config, result) + ([] if refused else _suggested(config, looked))
    result["out"] = None if out is None else str(out)
    if out is not None:
        sheet = png_sheet if out.suffix.lower() == ".png" else html_sheet
        page.write(out, sheet(config, result, rows))
    return result | {"seconds": round(time.perf_counter() - started, 3)}


def view_rows(config: Config, looked: Looked) -> list[Row]:
    """Returns the run's first images with their views, as its first batch has them.

    One that cannot be read is left out.
    """
    images, making, rows = looked.images, build_making(config, looked.images), []
    for index, position in zip(looked.first, looked.positions, strict=True):
        place = tf.constant(index, tf.int64)
        try:
            pixels = decoded(images, place).numpy()
        except UNREADABLE:
            continue
        with _eagerly():  # tracing takes seconds, and these are few
            host = making.on_host(images, place, config.seed, position)
            batches = tf.nest.map_structure(lambda part: part[None], host)
            both = [making.on_device(view)[0].numpy() for view in batches]
        size = pixels.shape[:2]
        of_run = {"seed": config.seed, "position": position}
        first, second = config.views
        drawn = (
            drawn_for(first, size, **of_run, number=0),
            drawn_for(second, size, **of_run, number=1),
        )
        lines = drawn_lines(first, drawn[0], size), drawn_lines(second, drawn[1], size)
        name = images.name_of(index) if images.paths is None else images.paths[index]
        rows.append(Row(name, position, pixels, (both[0], both[1]), drawn, lines))
    return rows


@contextlib.contextmanager
def _eagerly() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def refusals(config: Config, looked: Looked, unreadable: int) -> list[str]:
    """Returns why `pretrain` would not start with these images, so many of them unreadable."""
    count = looked.looked_at
    checks: list[Callable[[], None]] = [
        lambda: check_sizes(
            looked.images, config.image_size, config.max_small_images, config.smallest_image
        ),
        lambda: check_enough_images(
            looked.count,
            config.batch_size,
            config.group_size,
            config.devices or 1,
            config.accumulation_steps,
        ),
    ]
    found = []
    if unreadable > config.max_bad_images * count:
        found.append(
            f"{unreadable} of {count} images cannot be read, more than max_bad_images="
            f"{config.max_bad_images:g}. Mend them, or raise --max-bad-images."
        )
    for check in checks:
        try:
            check()
        except InputError as error:
            found.append(str(error))
    return found


def _suggested(config: Config, looked: Looked) -> list[str]:
    """What `pretrain` and `estimate` advise."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    devices = config.devices or default_devices(config.divisible)
    facts = known_facts(config, looked.images, devices=devices, gpus=gpus)
    steps = config.epochs * (looked.count // config.batch_size)
    facts = replace(facts, images=looked.count, steps=steps)
    return [one.line.removeprefix("suggestion: ") for one in suggestions(config, facts)]


def _facts(config: Config, looked: Looked, surveyed: Survey) -> dict[str, Any]:
    sizes, images = surveyed.sizes, looked.images
    names = [images.name_of(place) for place in surveyed.places.tolist()]
    lost = np.setdiff1d(looked.places, surveyed.places).tolist()
    unreadable = [*looked.unreadable, *(images.name_of(place) for place in lost)]
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    named = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
    height, width = sizes[named["median"]].tolist()
    return {
        "recipe": config.recipe,
        "data": config.data,
        "images": looked.count,
        "test_images": looked.test_count,
        "looked_at": len(surveyed.places),
        "classes": looked.classes,
        "sizes": {name: sizes[place][::-1].tolist() for name, place in named.items()},
        "channels": {"gray": int(surveyed.gray.sum()), "colour": int((~surveyed.gray).sum())},
        "blank_share": images.blank_share,
        "unreadable": len(unreadable),
        "unreadable_files": unreadable[:MOST_NAMED],
        "left_out": looked.left_out,
        "near_duplicates": [
            {"first": names[one], "second": names[other], "bits": bits}
            for one, other, bits in near_duplicates(surveyed.small)[:MOST_NAMED]
        ],
        "upright": surveyed.upright,
        "crop": crop_facts(config, height, width),
        "found": looked.lines,
    }


def _shown(row: Row) -> dict[str, Any]:
    height, width = row.pixels.shape[:2]
    views = {f"view{n}": asdict(drawn) for n, drawn in enumerate(row.drawn, start=1)}
    return {"image": row.name, "position": row.position, "size": [width, height], **views}
