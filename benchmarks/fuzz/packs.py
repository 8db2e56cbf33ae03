"""Packs that are whole, and packs whose index, notes and shards are not what they should be."""

import io
import json
import random
from pathlib import Path

import numpy as np
from archives import hostile_npz
from cases import Case, Hole, Link, broken
from images import whole_images
from texts import hostile_json

SHARD = "images-00000.tfrecord"
PLANTED = (".images-00000.tfrecord.tmp", ".images-00001.tfrecord.tmp", ".rows-00001.npz")
PLANTED += ("images-00001.tfrecord", ".pack.lock", "..pack.json.tmp", ".pack.npz.tmp")
OUT = Link("../outside/secret.txt")
INDEX, NOTE, ROWS = "pack.npz", ".pack.json", ".rows-00000.npz"


class _StopError(Exception):
    pass


def _source(given: Path) -> Path:
    source = given / "source"
    for place, name in enumerate(("jpeg", "png", "webp", "gif")):
        path = source / "ab"[place % 2] / f"{place}.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole_images()[name])
    return source


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole_pack(given: Path) -> dict[str, bytes]:
    from moco_tf.data.pack.write import pack

    pack(str(_source(given)), given / "pack")
    return _files(given / "pack")


def begun_pack(given: Path) -> tuple[Path, dict[str, bytes]]:
    """The source, and the files of a pack that was ended before there was an index."""
    from moco_tf.data.pack import write as command

    def stop(*_):
        raise _StopError

    kept, command._write_index = command._write_index, stop
    try:
        command.pack(str(_source(given)), given / "begun")
    except _StopError:
        command._write_index = kept
    return given / "source", _files(given / "begun")


def hostile_pack(rng: random.Random, whole: dict[str, bytes]) -> Case:
    case: Case = dict(whole)
    with np.load(io.BytesIO(whole[INDEX])) as archive:
        arrays = {name: archive[name] for name in archive.files}
    kind = rng.randrange(10)
    if kind <= 4:
        case[INDEX] = hostile_npz(rng, arrays)
    elif kind <= 7:
        about = json.loads(arrays["about"].tobytes())
        text = hostile_json(rng, about) if kind < 7 else json.dumps(about).encode()
        arrays["about"] = np.frombuffer(text, np.uint8)
        if rng.random() < 0.4:
            hostile = rng.choice((b"../../outside/ran", b"/tmp/ran", b"\n", b"\xff", b"a\0b"))
            arrays["paths"] = np.frombuffer(b"\0".join([hostile] * 4), np.uint8)
        for name in ("offset", "length", "sizes"):
            if rng.random() < 0.2:
                arrays[name] = arrays[name] + rng.choice((-1, 1, 2**20)).__int__()
                arrays[name] = arrays[name].astype(np.int32 if name == "sizes" else np.int64)
        file = io.BytesIO()
        np.savez(file, **arrays)
        case[INDEX] = file.getvalue()
    elif kind == 8:
        case[SHARD] = rng.choice((OUT, Link(SHARD), Hole(2**40), b"", None))
    else:
        case[SHARD] = broken(rng, whole[SHARD])
    if rng.random() < 0.1:
        case.pop(rng.choice(list(case)))
    return case


def hostile_begun(rng: random.Random, begun: dict[str, bytes]) -> Case:
    case: Case = dict(begun)
    name = rng.choice((NOTE, NOTE, ROWS, ROWS, SHARD))
    if name == NOTE:
        case[name] = hostile_json(rng, json.loads(begun[name]))
    elif name == ROWS:
        with np.load(io.BytesIO(begun[ROWS])) as archive:
            case[name] = hostile_npz(rng, {name: archive[name] for name in archive.files})
    else:
        case[name] = rng.choice((broken(rng, begun[name]), OUT, Hole(2**40)))
    if rng.random() < 0.1:
        case[rng.choice(PLANTED)] = rng.choice((b"", begun[ROWS], OUT))
    if rng.random() < 0.1:
        case.pop(rng.choice(list(case)))
    return case
