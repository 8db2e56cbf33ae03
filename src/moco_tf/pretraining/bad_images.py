"""The unreadable images that a run has met: counted, named once, refused beyond a share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.data.readable import ReadableBatches
from moco_tf.distribute.workers import Workers
from moco_tf.errors import InputError
from moco_tf.files.atomic import write_atomically, write_error
from moco_tf.runs.folder import BAD_IMAGES
from moco_tf.training.reporting import Reporter, rows_until

NAMED = 10  # files in one line of the log


class BadImages:
    """What all workers know of it, in step with the loop.

    Args:
        batches: of this worker.
        most: largest share of the images that may be unreadable.
        run_dir: where the list of them is written.
        from_step: that the run goes on from; none: the images are not those of before. What was
            met after it will be met again.
    """

    def __init__(
        self,
        batches: ReadableBatches,
        most: float,
        run_dir: Path,
        workers: Workers,
        reporter: Reporter,
        from_step: int | None,
    ):
        self._batches, self._most = batches, most
        self._workers, self._reporter = workers, reporter
        self._path = run_dir / BAD_IMAGES
        rows: list[str] = []
        if workers.chief and self._path.exists():
            rows = [] if from_step is None else rows_until(self._path, from_step)
            write_atomically(self._path, "".join(rows).encode())
        indices = [json.loads(row).get("index") for row in rows]
        self._met: set[int] = set(workers.from_chief(indices))

    def row(self) -> dict[str, float]:
        """What a row of metrics.jsonl holds of it."""
        return {"bad_images": len(self._met)}

    def any_new(self) -> bool:
        """Whether this worker's last batch passes over an image that was not met before."""
        return any(index not in self._met for index in self._indices(self._passed()))

    def note(self, step: int) -> InputError | None:
        """Notes what all workers met in the batch after `step`, if one of them met a new one.

        Returns:
            What to raise if they are too many; none: the run goes on.
        """
        passed = self._workers.elementwise_max(self._passed())
        order, images = self._batches.order, self._batches.images
        rows: list[dict[str, Any]] = []
        for index in self._indices(passed):
            if index not in self._met:
                self._met.add(index)
                reason = order.unreadable.get(index, "another worker read it")
                name = images.name_of(index)
                rows.append({"step": step + 1, "index": index, "file": name, "reason": reason})
        if self._workers.chief:
            self._write(rows)
        named = ", ".join(f"{row['file']} ({row['reason']})" for row in rows[:NAMED])
        more = f" and {len(rows) - NAMED} more" if rows[NAMED:] else ""
        self._reporter.line(
            f"step {step + 1}: {len(rows)} unreadable: {named}{more}; the next images of the order "
            f"take their place ({len(self._met)} of {images.count} so far, in {BAD_IMAGES})"
        )
        if len(self._met) <= self._most * images.count:
            return None
        last = rows[-1]
        return InputError(
            f"{last['file']} could not be read ({last['reason']}) after step {step}, which is "
            f"saved. With it {len(self._met)} of {images.count} images are unreadable, more than "
            f"max_bad_images={self._most:g}. Mend those that {BAD_IMAGES} in the run folder names "
            f"(moco-tf check --data finds all of them), or raise --max-bad-images."
        )

    def _passed(self) -> np.ndarray:
        """How many images each row of the whole batch passes over, as far as this worker reads."""
        order = self._batches.order
        passed = np.zeros(order.batch_size, np.int64)
        rows = slice(None) if order.rows is None else order.rows
        passed[rows] = order.passed(self._batches.step - 1)
        return passed

    def _indices(self, passed: np.ndarray) -> list[int]:
        """The images that are passed over, each once, in the order of the rows."""
        order = self._batches.order
        epoch, number = divmod(self._batches.step - 1, order.epoch_steps)
        found: dict[int, None] = {}
        for row in np.flatnonzero(passed):
            first = number * order.batch_size + row
            places = np.arange(first, first + passed[row])
            found |= dict.fromkeys(order.at(epoch, places).tolist())
        return list(found)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise write_error(self._path, len(text), error) from None
