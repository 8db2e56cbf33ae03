"""convert: read SOURCE, write TARGET in another format, and compare the two before it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save as to_safetensors

from moco_tf.config import Config, describe_encoder
from moco_tf.convert import detectron2, official, released, torch_process
from moco_tf.convert.check import compare
from moco_tf.convert.contents import Parts
from moco_tf.convert.reading import Source, from_parts, read_source
from moco_tf.convert.state_dict import to_state_dict
from moco_tf.convert.targets import KERAS, check_target
from moco_tf.convert.vit_names import to_torchvision
from moco_tf.errors import InputError
from moco_tf.files.atomic import write_atomically
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs.snapshot import QUERY_ENCODER, EncoderCheckpoint
from moco_tf.training.reporting import to_stderr


class _UnequalError(Exception):
    """The file just written does not hold the same encoder."""


def convert(
    source: Path | str,
    target: Path | str,
    *,
    to: str,
    with_head: bool = False,
    image_size: int | None = None,
    normalization: str | None = None,
    key: str | None = None,
    overwrite: bool = False,
    warn: Callable[[str], None] = to_stderr,
) -> dict[str, Any]:
    """Writes the encoder (or the whole state) in `source` to `target`; returns what came of it.

    The file is written under a temporary name, read back, and its features on fixed images are
    compared with those of `source`. Only if they are equal ("equal" in the result) is it renamed
    to `target`; otherwise nothing is left there.

    Args:
        source: run folder, converted file, a file with PyTorch's names (.pth, .safetensors), or the
            name of a released file, which is downloaded unless it is in the cache.
        target: file to write; its suffix must be one of the format's.
        to: "official", "torchvision", "timm", "detectron2" or "moco-tf"; "keras" is for
            `exporting.converted.convert_to_keras`.
        with_head: write `fc` to torchvision's and timm's files too; and take a plain `fc` in
            `source` as the projection head, not as a classifier to leave out.
        image_size, normalization: of the images the encoder is for, where `source` does not say;
            none: the official ones for its stem (224 and "imagenet", 32 and "cifar10").
        key: what the encoder lies under in a file of PyTorch's that holds several, such as
            "state_dict_ema"; none: the first that is no moving average of another.
        overwrite: replace a `target` that exists.

    Raises:
        InputError: for anything wrong with the files or arguments; nothing is written.
    """
    target, name = Path(target), str(source)
    check_target(target, to, overwrite)
    if to == KERAS:
        raise InputError("to=keras is written by moco_tf.exporting.converted.convert_to_keras.")
    named = released.is_released(source)
    read = read_source(
        released.fetch(name, warn) if named else Path(source),
        image_size=image_size,
        normalization=normalization,
        with_head=with_head,
        key=key,
        warn=warn,
    )
    if named:
        read = _with_licence(read, name)
    _check_kind(read.snapshot.config, str(source), to)
    # No other program has MoCo v3's heads.
    plain = to in ("torchvision", "timm")
    head = not plain or (with_head and read.snapshot.config.head != "v3")
    data = _to_bytes(read.snapshot, target, to, head)
    result: dict[str, Any] = {}

    def verify(written: Path) -> None:
        result.update(compare(read, _read_back(written, read.snapshot, to, head)))
        if not result["equal"]:
            raise _UnequalError

    with contextlib.suppress(_UnequalError):  # the result says so
        write_atomically(target, data, verify=verify)
    config = read.snapshot.config
    return {
        "source": name,
        "source_format": read.kind,
        "target": str(target),
        "to": to,
        **config.encoder_fields,
        "dim": None if config.head == "none" else config.dim,
        **config.model_dump(include={"image_size", "normalization"}),
        "step": read.snapshot.step,
        "notes": list(read.notes),
        **result,
    }


def _check_kind(config: Config, source: str, to: str) -> None:
    """Raises `InputError` where the format has no names for the encoder."""
    if to == "moco-tf" or (config.is_vit and to in ("torchvision", "timm")):
        return
    if not config.is_resnet:
        raise InputError(
            f"{source} holds the backbone {config.encoder}, and --to {to} is for ResNets. Use "
            f"--to moco-tf{', timm or torchvision' if config.is_vit else ''}, or moco-tf export."
        )
    if config.head == "v3" and to == "official":
        raise InputError(
            f"{source} is of MoCo v3, and --to official is the form of v1 and v2. Use --to "
            f"torchvision, which holds the backbone."
        )


def describe(result: dict[str, Any]) -> str:
    """Returns the lines that tell what `convert` did."""
    head = "no head" if result["head"] == "none" else f"{result['head']} head to {result['dim']}"
    first, second = result["computed_with"]
    equal = "equal" if result["equal"] else "NOT EQUAL"
    identical = "bit-identical" if result["arrays_equal"] else "NOT identical"
    lines = [
        f"{result['source']} ({result['source_format']}): {describe_encoder(result)}, "
        f"{head}; for images of {result['image_size']} "
        f"pixels, normalization {result['normalization']}",
        *result["notes"],
        f"features ({' and '.join(result['features_compared'])}), of SOURCE by {first}, of TARGET "
        f"by {second}: largest difference {result['max_abs_difference']:.2g}, largest feature "
        f"{result['largest_feature']:.3g}, {equal} (tolerance {result['tolerance']:g} of it)",
        f"{result['arrays']} arrays read back, {identical}",
        f"wrote {result['target']} for {result['to']}"
        if result["equal"]
        else f"wrote nothing to {result['target']}",
    ]
    return "\n".join(lines)


def _with_licence(read: Source, name: str) -> Source:
    """What the file and the user are told of a released file."""
    origin = {"source": released.url_of(name), "licence": released.LICENCE}
    snapshot = replace(read.snapshot, provenance={**read.snapshot.provenance, **origin})
    return replace(read, snapshot=snapshot, notes=(released.licence_of(name), *read.notes))


def _to_bytes(snapshot: EncoderCheckpoint, target: Path, to: str, head: bool) -> bytes:
    if to == "moco-tf":
        return encoder_file.to_bytes(snapshot)
    if to == "official":
        return torch_process.to_bytes(official.checkpoint_of(snapshot))
    with_head = head and to != "detectron2"
    arrays = to_state_dict(snapshot.state, QUERY_ENCODER, steps=snapshot.step, with_head=with_head)
    if to == "torchvision" and snapshot.config.is_vit:
        arrays = to_torchvision(arrays, str(target))
    if to == "detectron2":
        return detectron2.to_bytes(arrays)
    if target.suffix == ".safetensors":
        return to_safetensors(arrays, {"format": "pt"})
    return torch_process.to_bytes(arrays)


def _read_back(written: Path, snapshot: EncoderCheckpoint, to: str, head: bool) -> Source:
    size = snapshot.config.image_size
    if to == "detectron2":
        arrays = detectron2.from_bytes(written.read_bytes())
        return from_parts(Parts(arrays, {}, {}, False), {}, str(written), image_size=size)
    return read_source(written, image_size=size, with_head=head, warn=to_stderr)
