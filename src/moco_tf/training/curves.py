"""Numbers of a run as curves for TensorBoard."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.api import hparams

from moco_tf.errors import InputError

TAGS = {"lr": "learning_rate"}
HEALTH = ("positive_similarity", "negative_similarity", "feature_std", "patch_gradient_share")


class Curves:
    """Writes curves into `folder`; older files there lose their points after `resumed_step`.

    Args:
        config: of the run, which TensorBoard shows under HParams; none: it shows none.
    """

    def __init__(self, folder: Path, resumed_step: int, config: Mapping[str, Any] | None = None):
        self._compared = False
        with _told_in_one_line():
            self._writer = tf.summary.create_file_writer(str(folder))
            _forget_after(self._writer, resumed_step)
            if config and not resumed_step:
                with self._writer.as_default():
                    hparams({name: _plain(value) for name, value in config.items()})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Draws the values of a logging point."""
        self._draw(step, {_curve(name): value for name, value in values.items()})

    def evaluation(
        self, step: int, values: Mapping[str, float], baselines: Mapping[str, float]
    ) -> None:
        """Draws the results of an evaluation, each in a chart with its baselines as lines."""
        if not self._compared:
            self._compared = True
            self._draw_together([_evaluated(name) for name in values])
        together = {**values, **baselines}
        self._draw(step, {_evaluated(name): value for name, value in together.items()})

    def pictures(self, step: int, sheets: Mapping[str, np.ndarray]) -> None:
        """Shows pictures, uint8 [h, w, 3], by name."""
        with _told_in_one_line(), self._writer.as_default():
            for name, pixels in sheets.items():
                tf.summary.image(f"pictures/{name}", pixels[None], step=np.int64(step))
            self._writer.flush()

    def close(self) -> None:
        """Closes the file; what could not be written was told before."""
        with contextlib.suppress(tf.errors.OpError):
            self._writer.close()

    def _draw_together(self, curves: list[str]) -> None:
        """Has TensorBoard show each curve and its baselines in a chart, under Custom Scalars."""
        layout = layout_pb2.Layout()
        charts = layout.category.add(title="evaluations").chart
        for curve in curves:
            charts.add(title=curve).multiline.tag.append(f"^{curve}(_untrained|_pixels)?$")
        about = tf.compat.v1.SummaryMetadata()
        about.plugin_data.plugin_name = "custom_scalars"
        with _told_in_one_line(), self._writer.as_default():
            tf.summary.write("custom_scalars__config__", layout.SerializeToString(), 0, about)

    def _draw(self, step: int, curves: dict[str, float]) -> None:
        with _told_in_one_line(), self._writer.as_default():
            for name, value in curves.items():
                tf.summary.scalar(name, np.float32(value), step=np.int64(step))  # see `build_step`
            self._writer.flush()


@contextlib.contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Raises what TensorFlow could not write as `InputError`."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = str(error.message).split("}} ")[-1].splitlines()[0]
        raise InputError(f"cannot write {reason}.") from None


def _forget_after(writer, step: int) -> None:
    """Makes TensorBoard leave out points after `step` in older files: they are drawn once more."""
    start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    first = step + 1 if step else 0  # the untrained encoder is evaluated anew
    event = tf.compat.v1.Event(wall_time=time.time(), step=first, session_log=start)
    tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())


def _plain(value: Any) -> bool | float | str:
    """What HParams takes."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _curve(name: str) -> str:
    """Where TensorBoard shows a value: "loss" is train/loss, "knn_top1" is knn/top1."""
    if name.startswith(("val_", "knn_")):
        return name.replace("_", "/", 1)
    return f"{'health' if name in HEALTH else 'train'}/{TAGS.get(name, name)}"


def _evaluated(name: str) -> str:
    """Where TensorBoard shows what an evaluation gives."""
    return _curve(name) if name.startswith("knn_") else f"label_free/{name}"
