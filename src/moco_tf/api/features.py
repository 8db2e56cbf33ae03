"""`moco_tf.embed` and `moco_tf.export`: features, and encoders taken elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from moco_tf.api import starting
from moco_tf.api.run import AnyRun, text_of
from moco_tf.exporting import embed_files, projector
from moco_tf.exporting.targets import check_format, check_out
from moco_tf.names.data import text_or_object
from moco_tf.runs.snapshot import peek

if TYPE_CHECKING:
    import numpy as np

    from moco_tf.training.reporting import Reporter

AnyPath = str | os.PathLike[str]
Features = Literal["pooled", "projection"]
Split = Literal["train", "test", "all"]


@overload
def embed(
    run: AnyRun,
    data: Any = None,
    *,
    out: None = None,
    features: Features = ...,
    split: Split = ...,
    projector_folder: AnyPath | None = None,
    max_bad_images: float | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> np.ndarray: ...


@overload
def embed(
    run: AnyRun,
    data: Any = None,
    *,
    out: AnyPath,
    features: Features = ...,
    split: Split = ...,
    projector_folder: AnyPath | None = None,
    max_bad_images: float | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]: ...


def embed(
    run: AnyRun,
    data: Any = None,
    *,
    out: AnyPath | None = None,
    features: Features = "pooled",
    split: Split = "all",
    projector_folder: AnyPath | None = None,
    max_bad_images: float | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> np.ndarray | dict[str, Any]:
    """Returns the features of images by a run's encoder: float32 [N, D], not normalised.

    Args:
        run: a `Run`, a run folder (its newest checkpoint), or a file made by `moco-tf convert` or
            `finetune`.
        data: what `pretrain` takes. None: the run's own.
        out: file to write instead, .npy, .npz, .parquet or .csv, batch by batch: memory does not
            grow with N.
        features: "pooled" (before the head) or "projection" (the head's output).
        split: "train", "test" or "all", the training images first.
        projector_folder: also write files for TensorBoard's projector there.
        max_bad_images: largest share of unreadable files to skip. None: the run's own.
        overwrite: replace files that exist.
        reporter: see `pretrain`.

    Returns:
        The features; with `out` what was written, as `moco-tf embed --json` prints.

    Raises:
        InputError: anything wrong with the run, the data or the files.
        Cancelled: Ctrl-C or SIGTERM; nothing is left of `out`.
    """
    run, (text, source) = text_of(run), text_or_object(data)
    target, folder = (None if p is None else Path(text_of(p)) for p in (out, projector_folder))
    if target is not None:
        embed_files.check_target(target, overwrite=overwrite, sources=(run, text))
    if folder is not None:
        projector.check_folder(folder, overwrite=overwrite)
    images = source if text is None else text
    starting.start_with_images(run, images)
    from moco_tf.exporting.embed import embed

    return embed(
        run,
        target,
        data=images,
        features=features,
        split=split,
        projector_folder=folder,
        max_bad_images=max_bad_images,
        overwrite=overwrite,
        reporter=reporter,
    )


def export(
    run: AnyRun,
    out: AnyPath,
    *,
    format: Literal["keras", "savedmodel", "onnx", "litert"],
    with_head: bool = False,
    with_preprocessing: bool = False,
    data: AnyPath | None = None,
    data_licence: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the encoder of a run for other tools, and a model card; compares it there.

    The export is loaded by its own runtime, and its features of images are compared with the
    encoder's. It gets its name only if they are equal.

    Args:
        run: a `Run`, a run folder (its newest checkpoint), or a file made by `moco-tf convert` or
            `finetune`.
        out: file, or folder of a SavedModel, to write.
        format: of what is written.
        with_head: end in the head's output, not in the pooled features.
        with_preprocessing: take uint8 pixels, not normalised ones.
        data: images to compare on. None: the run's own, or drawn shapes.
        data_licence: what the card says of the data's licence.
        overwrite: replace an `out` that exists.

    Returns:
        "equal" (False: nothing was written), "largest_error", "out" and others, as
        `moco-tf export --json` prints.

    Raises:
        InputError: anything wrong with the run, the format or the files; nothing is written.
    """
    run, target, text = text_of(run), Path(text_of(out)), None if data is None else os.fspath(data)
    check_format(format)
    check_out(target, format, overwrite)
    peek(run)
    starting.check_data(text)
    starting.start_tensorflow()
    from moco_tf.exporting.command import export

    return export(
        run,
        target,
        to=format,
        with_head=with_head,
        with_preprocessing=with_preprocessing,
        data=text,
        data_licence=data_licence,
        overwrite=overwrite,
    )
