"""embed: the features of all images of a data set by a run's query encoder, to a file."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.data.found import found_lines, left_out, skipped_lines
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import Images, open_images
from moco_tf.errors import DivergedError
from moco_tf.evaluate.features import Features, embedding, feature_rows
from moco_tf.exporting import embed_files, projector
from moco_tf.exporting.rows import rows_of, select
from moco_tf.names.data import text_of
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import images_of
from moco_tf.training.reporting import Reporter
from moco_tf.training.signals import Cancelled, StopSignals

BATCH = 64
REPORT_EVERY = 10.0  # seconds


def embed(
    run: str,
    out: Path | str | None,
    *,
    features: Features,
    split: str,
    data: Any = None,
    projector_folder: Path | str | None = None,
    max_bad_images: float | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any] | np.ndarray:
    """Writes features to `out`; see `moco_tf.embed`, which checks the arguments first.

    They are written batch by batch. At Ctrl-C, SIGTERM or an error nothing of it is left, and a
    file to be replaced is as it was.

    Args:
        out: None: the features themselves are returned.
        data: text, or pictures.

    Raises:
        InputError: for anything wrong with the run, the data or the files.
        Cancelled: at Ctrl-C or SIGTERM.
    """
    say = (reporter or Reporter()).line
    name = None if data is None else text_of(data)
    out, folder = (None if p is None else Path(p) for p in (out, projector_folder))
    if out is not None:
        embed_files.check_target(out, overwrite=overwrite, sources=(run, name))
    if folder is not None:
        projector.check_folder(folder, overwrite=overwrite)
    encoder, config, step = load_encoder(run, warn=say)
    function = embedding(encoder, features=features, normalization=config.normalization)
    data, side = images_of(config, data, run), config.image_size
    share = config.max_bad_images if max_bad_images is None else max_bad_images
    train, test = open_images(
        data, max_bad_images=share, seed=config.seed, image_size=side, look="later"
    )
    name = text_of(data)
    parts = select(name, train, test, split)
    rows = functools.cache(lambda: rows_of(parts))  # known when all images were read
    count = sum(images.count for _, images in parts)
    _tell(parts, found_lines(train, test), say)
    points = None if folder is None else projector.Points(count, side)
    if points is not None and len(points.indices) < count:
        say(f"the projector gets {len(points.indices)} of {count} images, evenly chosen")
    with StopSignals() as signals:
        crops = _crops(parts, side)
        crops = crops if points is None else points.with_thumbnails(crops)
        found = feature_rows(function, crops, size=min(BATCH, count))
        found = found if points is None else points.with_features(found)
        followed = _Followed(found, count, run, out, signals, say)
        if out is None:
            array = np.concatenate(list(followed))
        else:
            embed_files.save(out, rows, followed, check=followed.stop)
        if points is not None and folder is not None:
            points.save(folder, rows(), features)
    for line in skipped_lines(train, test):
        say(line)
    if out is None:
        return array
    counts = {name: len(images.readable) for name, images in parts}
    return {
        "out": str(out),
        "images": sum(counts.values()),
        "dimensions": followed.dimensions,
        "features": features,
        "bad_images": count - sum(counts.values()),
        "left_out": left_out(*(images for _, images in parts)),
        "splits": counts,
        "classes": len(rows().classes),
        "step": step,
        "images_per_second": followed.images_per_second,
        "projector": None if folder is None else str(folder),
        "projector_points": 0 if points is None else len(points.indices),
        "protocol": _protocol(features, followed.dimensions, step, run, name, counts, side),
    }


def _tell(parts, found: list[str], say: Callable[[str], None]) -> None:
    for line in found:
        say(line)
    if any(images.why_unlabelled for _, images in parts):
        say(f"the test images get no class: {parts[-1][1].why_unlabelled}")


def _crops(parts: list[tuple[str, Images]], side: int) -> Iterator[Any]:
    for _, images in parts:
        indices = np.arange(images.count)
        yield from eval_batches(images, indices=indices, image_size=side, batch_size=BATCH)


class _Followed:
    """Batches of features on their way to the file: checked, counted, timed, and stopped."""

    def __init__(
        self,
        batches: Iterable[np.ndarray],
        count: int,
        run: str,
        out: Path | None,
        signals: StopSignals,
        say: Callable[[str], None],
    ):
        self._batches, self._count, self._run, self._out = batches, count, run, out
        self._signals, self._say = signals, say
        self.dimensions, self.images_per_second = 0, 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields float32 [b, D].

        The first batch, which compiles, counts for speed only where it stands alone.
        """
        begun = told = time.perf_counter()
        done = first = 0
        for batch in self._batches:
            self.stop()
            if not np.isfinite(batch).all():
                raise DivergedError(
                    f"the features of {self._run} are not all finite: the encoder has diverged. "
                    f"Use an earlier checkpoint."
                )
            self.dimensions = batch.shape[1]
            yield batch
            done += len(batch)
            now = time.perf_counter()
            self.images_per_second = (done - first) / (now - begun)
            if not first and done < self._count:
                begun, first = now, done
            elif now - told >= REPORT_EVERY:
                told = now
                self._say(f"{done}/{self._count} images  {self.images_per_second:.0f} images/s")
        self.stop()

    def stop(self) -> None:
        if self._signals.signal is not None:
            to = f" to {self._out}" if self._out else ""
            raise Cancelled(self._signals.signal, f"nothing was written{to}.")


def _protocol(features, dimensions, step, run, data, counts, side) -> str:
    of = " and ".join(f"{count} {name} images" for name, count in counts.items())
    return (
        f"The {features} features ({dimensions} numbers, not normalised) of the query encoder of "
        f"{run} at step {step}, in inference mode and without augmentation, of the {of} of {data}; "
        f"images of another size than {side} x {side} resized to a short side of "
        f"{round(side * 256 / 224)} and cropped in the middle."
    )
