"""Archives of arrays (.npz) whose members, names and sizes are not what they should be."""

import io
import random
import zipfile
from functools import cache

import numpy as np
from cases import broken, number

EVIL = b"cos\nsystem\n(S'touch ran'\ntR."  # a pickle that runs a program when it is loaded
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SHAPES = ("()", "(0,)", "(-1,)", "(2**62,)", "(10**9, 10**9)", "(10**30,)", "(1.5,)", "None", "3")
SHAPES += ("(True,)", "(4611686018427387904, 4)", "(0, 10**18)", "'a'", "((1,),)", "(" * 300)
KINDS = ("'|O'", "'O'", "'<U1000000000'", "'|V0'", "'<U0'", "'|S2147483647'", "[('a', '<f4')]")
KINDS += ("'<M8[ns]'", "'nonsense'", "None", "('<f4', (1000, 1000, 1000))", "'<f16'", "'<c8'")
KINDS += ("[('a', 'O')]", "'>f4'", "'|b1'", "'<i8'", "'<u8'", "3", "'<f4,<f4'", "b'<f4'")
LOST = (
    "../outside/ran",
    "/tmp/ran",
    "a/../../b",
    "",
    "\\\\host\\x",
    "a" * 70000,
    "a\nb",
    "\x1b[31m",
)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def hostile_npz(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """An archive of `arrays`, broken; one in fifty is whole."""
    chance = rng.random()
    if chance < 0.4:
        return broken(rng, npz(arrays), EVIL * 20)
    if chance > 0.98:
        return npz(arrays) if chance < 0.998 else _bomb(f"{next(iter(arrays))}.npy")
    members = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(rng, members, arrays)
    data = _zipped(rng, members)
    return broken(rng, data) if rng.random() < 0.2 else data


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def _with_header(kind: str, order: str, shape: str, body: bytes, version: int = 2) -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def _change(rng: random.Random, members: dict[str, bytes], arrays: dict[str, np.ndarray]) -> None:
    name = rng.choice(list(arrays))
    shape, dtype, body = arrays[name].shape, arrays[name].dtype, arrays[name].tobytes()
    name, kind = f"{name}.npy", rng.randrange(11)
    if name not in members:
        return
    if kind <= 2:
        text = rng.choice(SHAPES) if rng.random() < 0.6 else str((number(rng), *shape[1:]))
        members[name] = _with_header(repr(dtype.str), "False", text, body)
    elif kind == 3:
        order = rng.choice(("True", "1", "None"))
        members[name] = _with_header(rng.choice(KINDS), order, str(shape), body, rng.choice((1, 3)))
    elif kind == 4:
        members[name] = _with_header("'|O'", "False", "()", EVIL)
    elif kind == 5:
        members[name] = EVIL
    elif kind == 6:
        members[rng.choice(LOST)] = members.pop(name)
    elif kind == 7:
        members.pop(name)
    elif kind == 8:
        members[name] = broken(rng, members[name])
    elif kind == 9:
        members[name] = _of_other_values(rng, shape, dtype)
    else:
        members[name] += bytes(number(rng) % 10**5)


def _of_other_values(rng: random.Random, shape: tuple, dtype: np.dtype) -> bytes:
    """An array of the right kind, or nearly, of values that nobody expects."""
    shape = tuple(n if rng.random() < 0.8 else number(rng) % 50 for n in shape)
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = [min(max(number(rng) * rng.choice((1, -1)), low), high) for _ in range(5)]
        array = np.resize(np.array(values, dtype), shape)
    elif dtype.kind == "f":
        array = np.full(shape, rng.choice((np.nan, np.inf, -1.0, 1e300)), np.float64).astype(dtype)
    else:
        array = np.full(shape, "x" * rng.choice((0, 1, 5000)))
    return _npy(array)


@cache
def _bomb(name: str) -> bytes:
    """1.5 GB of zeros in 1.5 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        body = bytes(1_500_000_000)
        archive.writestr(name, _with_header("'|u1'", "False", "(1500000, 10, 10, 10)", body))
    return file.getvalue()


def _zipped(rng: random.Random, members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            about = zipfile.ZipInfo("a")
            about.filename, about.compress_type = name, rng.choice(METHODS)
            if len(name) < 2**16:
                archive.writestr(about, data)
    return file.getvalue()
