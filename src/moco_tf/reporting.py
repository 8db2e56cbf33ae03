"""Numbers of a run: to metrics.jsonl, TensorBoard and the console."""

import json
import math
import sys
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TAGS = {"lr": "learning_rate"}
HEALTH = ("positive_similarity", "negative_similarity", "feature_std")


class Reporter:
    """Writes what a run reports. With `json_mode`, the console is stderr."""

    def __init__(self, json_mode: bool = False):
        self.console = Console(stderr=json_mode, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._said: set[str] = set()
        self._knn = ""

    def start(self, run_dir, total_steps: int, steps_per_epoch: int, resumed_step: int) -> None:
        """Opens the files; rows of metrics.jsonl after `resumed_step` are taken away."""
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        path = Path(run_dir) / "metrics.jsonl"
        kept = _rows_until(path, resumed_step)
        temporary = path.with_suffix(".jsonl.tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(Path(run_dir) / "tensorboard"))
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=total_steps, completed=resumed_step)

    def line(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, markup=False)

    def metrics(self, step: int, values: dict, *, dim: int, queue_size: int) -> None:
        """Writes one logging point; warns of anything unhealthy, once."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        with self._writer.as_default():
            for name, value in values.items():
                room = "health" if name in HEALTH else "train"
                tf.summary.scalar(f"{room}/{TAGS.get(name, name)}", value, step=step)
        text = (
            f"epoch {values['epoch'] + 1}  loss {values['loss']:.3f}  top1 {values['top1']:.1f}%"
            f"{self._knn}  {values['images_per_second']:.0f} images/s"
        )
        if self._progress:
            self._progress.update(self._task, completed=step, description=text)
        else:
            self.line(f"step {step}/{self.total_steps}  {text}  wait {values['data_wait']:.0%}")
        for message in health_messages(values, dim=dim, queue_size=queue_size, step=step):
            if message not in self._said:
                self._said.add(message)
                self.line(message)

    def evaluation(self, step: int, values: dict) -> None:
        """Writes results of an evaluation: {"knn_top1": percent}."""
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name.replace("_", "/", 1), value, step=step)
        self._knn = f"  kNN {values['knn_top1']:.1f}%"
        self.line(f"step {step}: kNN top-1 {values['knn_top1']:.2f}%")

    def close(self) -> None:
        """Closes the files."""
        if self._progress:
            self._progress.stop()
        self._file.close()
        self._writer.close()


def health_messages(values: dict, *, dim: int, queue_size: int, step: int) -> list[str]:
    """Plain-language lines for what is off in the values of a logging point.

    Args:
        values: loss, top1 (percent) and feature_std (of unit features; 1 / sqrt(dim) if they
            fill the sphere).
        step: nothing is said of the first turn of the queue, whose keys are still random.
    """
    messages = []
    if values["feature_std"] < 0.1 / math.sqrt(dim):
        messages.append(
            "health: the features have collapsed: they are nearly equal for all images. Check the "
            "learning rate and the augmentations."
        )
    if step > 200 and abs(values["loss"] - math.log(1 + queue_size)) < 0.01:
        messages.append(
            "health: the loss is still that of guessing, log(1 + queue_size): nothing is learned. "
            "Check the learning rate and that both views show one image."
        )
    if step > 200 and values["top1"] > 99.9:
        messages.append(
            "health: the task is solved too easily (top-1 above 99.9 %): BatchNorm may leak which "
            "images belong together, or the augmentations are too weak."
        )
    return messages


def _rows_until(path: Path, step: int) -> list[str]:
    kept: list[str] = []
    if not path.exists():
        return kept
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            row_step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            print(f"metrics.jsonl: a broken line was dropped: {line[:60]!r}", file=sys.stderr)
            continue
        if row_step <= step:
            kept.append(line if line.endswith("\n") else line + "\n")
    return kept
