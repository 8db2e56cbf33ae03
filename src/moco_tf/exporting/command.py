"""export: write a run's encoder in a format of other tools, load it again there, and compare."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from moco_tf.data.failures import reason
from moco_tf.errors import InputError
from moco_tf.exporting import runtimes
from moco_tf.exporting.card import card
from moco_tf.exporting.check import check_finite, compare, found_features, wanted_features
from moco_tf.exporting.pictures import comparison_images
from moco_tf.exporting.plain import plain_model
from moco_tf.exporting.targets import FORMATS, card_path, check_format, check_out
from moco_tf.exporting.writing import takes_any_size, write
from moco_tf.files.atomic import take_lock, write_error
from moco_tf.runs.encoders import encoder_of
from moco_tf.runs.snapshot import EncoderCheckpoint, load_snapshot
from moco_tf.training.reporting import to_stderr

OLD = "old"  # in the hidden folder: the SavedModel that is being replaced


def export(
    run: Path | str,
    out: Path | str,
    *,
    to: str,
    with_head: bool = False,
    with_preprocessing: bool = False,
    data: str | None = None,
    data_licence: str | None = None,
    origin: str | None = None,
    overwrite: bool = False,
    warn: Callable[[str], None] = to_stderr,
) -> dict[str, Any]:
    """Writes the encoder of `run` to `out`, and a model card; returns what came of it.

    The export is written beside `out` under a temporary name, loaded by its own runtime, and its
    features of images are compared with the encoder's. Only if they are equal ("equal" in the
    result) does it get its name; otherwise nothing is left.

    Args:
        run: run folder, or a file made by `convert` or `finetune`.
        out: file, or folder of a SavedModel, to write.
        to: "keras", "savedmodel", "onnx" or "litert".
        with_head: end in the head's output, not in the pooled features.
        with_preprocessing: take uint8 pixels; see `card.input_text`.
        data: images to compare on; none: the run's own, or drawn shapes.
        data_licence: what the card says of the data's licence.
        origin: what the result and the card call `run`; none: its path.
        overwrite: replace an `out` that exists.

    Raises:
        InputError: for anything wrong with the files or arguments; nothing is written.
    """
    run, out = Path(run), Path(out)
    tolerance = check_format(to).tolerance
    check_out(out, to, overwrite)
    snapshot = load_snapshot(run, warn=warn)
    config = snapshot.config
    with tf.device("/CPU:0"):  # a GPU's convolutions may be TF32
        encoder = encoder_of(snapshot, run)
        normalization = config.normalization if with_preprocessing else None
        model = plain_model(encoder, head=with_head, normalization=normalization, source=run)
    pictures = comparison_images(data, config, warn=warn)
    any_size = takes_any_size(to, with_preprocessing)
    result = {
        "run": origin or str(run),
        "format": to,
        "out": str(out),
        "card": str(card_path(out, to)),
        **_facts(snapshot, model, with_head, with_preprocessing),
        "any_size": any_size,
        "images": len(pictures.raw),
        "images_of": pictures.data,
        "tolerance": tolerance,
    }
    wanted = wanted_features(encoder, config.normalization, with_head, pictures)
    check_finite(wanted, run)
    try:
        with _staging(out) as staging:
            check_out(out, to, overwrite)
            staged = staging / out.name
            write(model, staged, to=to)
            result["bytes"] = sum(p.stat().st_size for p in _files(staged))
            loaded = runtimes.load(staged, to=to)
            mean_std = None if with_preprocessing else config.normalization
            found = found_features(loaded, pictures, mean_std, any_size=any_size)
            result |= compare(wanted, found, tolerance)
            if result["equal"]:
                text = card(result, snapshot, run, data_licence=data_licence)
                card_path(staged, to).write_text(text, encoding="utf-8")
                _place(staging, staged, out, to)
    except OSError as error:
        raise write_error(out, 4 * model.count_params(), error) from error
    except tf.errors.OpError as error:
        raise InputError(f"cannot write {out}: {reason(error)}.") from error
    return result


def _facts(
    snapshot: EncoderCheckpoint, model: keras.Model, with_head: bool, with_preprocessing: bool
) -> dict[str, Any]:
    """What the result tells of the encoder and of its model."""
    config = snapshot.config
    tuned = snapshot.provenance.get("format") == "finetune"
    return {
        **config.encoder_fields,
        "dim": None if config.head == "none" else config.dim,
        **config.model_dump(include={"image_size", "normalization"}),
        "step": snapshot.step,
        "with_head": with_head,
        "preprocessing": with_preprocessing,
        "features": ("logits" if tuned else "projection") if with_head else "pooled",
        "output": model.output.shape[1],
        "parameters": model.count_params(),
    }


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Gives an empty hidden folder beside `out`, which is gone at the end.

    What a kill has left in it goes too, but for what stood at `out`: that gets its name back.

    Raises:
        InputError: if another process writes to `out`.
    """
    staging = out.with_name(f".{out.name}.export")
    staging.mkdir(exist_ok=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        take_lock(descriptor, lambda: f"out={out} is being written by another process.")
        try:
            if (staging / OLD).exists() and not out.exists():
                os.rename(staging / OLD, out)
            for left in list(staging.iterdir()):  # the folder itself is locked, so it stays
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        os.close(descriptor)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]


def _place(staging: Path, staged: Path, out: Path, to: str) -> None:
    """Gives the export and its card their names; what was there goes only when they stand."""
    for path in _files(staging):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    if FORMATS[to].suffix:
        os.replace(staged, out)
        os.replace(card_path(staged, to), card_path(out, to))
        return
    old = staging / OLD
    try:
        if out.exists():
            os.rename(out, old)
        os.rename(staged, out)
    except BaseException:  # a signal too
        if old.exists() and not out.exists():
            os.rename(old, out)
        raise
