"""Safetensors files, checkpoints with right digests that lie all the same, and PyTorch's files."""

import hashlib
import json
import random
import struct

import numpy as np
from cases import broken, number
from texts import hostile_json

KINDS = ("F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "X", "", None, 3)


def safetensors(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """The format by hand: the length of a header, the header in JSON, the arrays."""
    header, body = ({"__metadata__": metadata} if metadata is not None else {}), b""
    kinds = {"f4": "F32", "f8": "F64", "i8": "I64", "u1": "U8", "i4": "I32"}
    for name, array in arrays.items():
        data = array.tobytes()
        offsets = [len(body), len(body) + len(data)]
        kind = kinds[array.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def checkpoint(arrays: dict[str, np.ndarray], step: str, extra: str) -> bytes:
    """A checkpoint whose digests are right, whatever `step` and `extra` are."""
    from moco_tf.runs.checkpoint_file import digest

    metadata = {"step": step, "extra": extra, "sha256": digest(arrays)}
    parts = json.dumps([metadata["step"], metadata["extra"], metadata["sha256"]])
    metadata["metadata_sha256"] = hashlib.sha256(parts.encode()).hexdigest()
    return safetensors(arrays, metadata)


def hostile_checkpoint(rng: random.Random, arrays: dict[str, np.ndarray], extra: dict) -> bytes:
    chance = rng.random()
    if chance < 0.25:
        return broken(rng, checkpoint(arrays, "7", json.dumps(extra)))
    if chance < 0.5:
        return hostile_safetensors(rng, arrays, {"step": "7"})
    if chance < 0.6:
        return checkpoint(_changed(rng, arrays), "7", json.dumps(extra))
    step = rng.choice(
        ("7", "7", "-1", "x", "9" * 5000, str(number(rng)), "", "1.5", "\u0663", "\n")
    )
    text = hostile_json(rng, extra)
    try:
        return checkpoint(arrays, step, text.decode())
    except UnicodeError:
        return checkpoint(arrays, step, repr(text))


def hostile_safetensors(
    rng: random.Random, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> bytes:
    """Broken bytes, a header that lies, or arrays of other shapes and values."""
    data = safetensors(arrays, metadata)
    chance = rng.random()
    if chance < 0.3:
        return broken(rng, data)
    if chance < 0.5:
        return safetensors(_changed(rng, arrays), metadata)
    if chance > 0.98:
        return data
    size = struct.unpack_from("<Q", data)[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.choice((1, 1, 3))):
        _lie(rng, header)
    text = json.dumps(header).encode() if rng.random() < 0.8 else hostile_json(rng, header)
    claimed = len(text) if rng.random() < 0.9 else number(rng) % 2**64
    return struct.pack("<Q", claimed) + text + body


def _lie(rng: random.Random, header: dict) -> None:
    name = rng.choice([name for name in header if name != "__metadata__"] or ["a"])
    about = header.get(name)
    kind = rng.randrange(7)
    if kind == 0 or not isinstance(about, dict) or "data_offsets" not in about:
        header[rng.choice(("../ran", "/tmp/ran", "", "a" * 10**5, "\n\x1b[31m"))] = about
    elif kind == 1:
        about["dtype"] = rng.choice(KINDS)
    elif kind <= 3:
        about["shape"] = rng.choice(
            ([number(rng)], [2**62, 4], [0, 10**18], [-1], [], [1.5], "x", None, [1] * 1000)
        )
    elif kind == 4:
        about["data_offsets"] = [number(rng), number(rng)]
    elif kind == 5:
        about["data_offsets"][rng.randrange(2)] += rng.choice((-8, -1, 1, 8))
    else:
        header["__metadata__"] = rng.choice(
            ({"a": 1}, [], None, {"a": "\x00" * 1000}, {str(i): "x" for i in range(1000)})
        )


def _changed(rng: random.Random, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Some arrays absent, renamed, of another shape, type or of values that are no numbers."""
    arrays = dict(arrays)
    for _ in range(rng.choice((1, 2, 5))):
        name = rng.choice(list(arrays) or [""])
        array = arrays.pop(name, np.zeros(1, np.float32))
        kind = rng.randrange(7)
        if kind == 1:
            arrays[rng.choice((name + "x", "layer1.9999.conv1.weight", "fc.weight", "\n"))] = array
        elif kind == 2:
            arrays[name] = array.reshape(-1)
        elif kind == 3:
            arrays[name] = array.astype(rng.choice(("f8", "i8", "u1")))
        elif kind == 4:
            arrays[name] = np.full(array.shape, rng.choice((-1, 100))).astype(array.dtype)
        elif kind == 5:
            large = rng.choice((10**5, 10**6))
            arrays[name] = np.zeros((large, *(1 for _ in array.shape[1:])), array.dtype)
        elif kind == 6:
            arrays[name] = np.zeros((0, 10**9), array.dtype)
    return arrays
