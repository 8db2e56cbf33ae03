"""Inputs as values, a file's path and what it holds, and how whole bytes and text are broken."""

import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

Case = dict  # path below the folder -> bytes, `Link`, `Hole` or None (a pipe)
NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**24 - 1)
NUMBERS += (2**27, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**62, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Hole:
    """A file of that many zeros, none of them on the disk."""

    size: int


def write_case(folder: Path, case: Case) -> None:
    for name, content in case.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(content, Link):
            os.symlink(content.target, path)
        elif content is None:
            os.mkfifo(path)
        elif isinstance(content, Hole):
            with open(path, "wb") as file:
                file.truncate(content.size)
        else:
            Path(os.fsdecode(path)).write_bytes(content)


def number(rng: random.Random) -> int:
    return rng.choice(NUMBERS) if rng.random() < 0.8 else rng.randrange(2 ** rng.randrange(1, 64))


def broken(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """`data` with one to eight changes; `other` is what may be spliced in."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _break(rng, content, other)
    return bytes(content)


def _break(rng: random.Random, content: bytearray, other: bytes) -> None:
    if not content:
        content += rng.randbytes(rng.randrange(20))
        return
    start = rng.randrange(min(len(content), rng.choice((16, 64, 2**62))))  # headers come first
    span = slice(start, start + rng.randrange(1, rng.choice((4, 64, 4096))))
    kind = rng.randrange(10)
    if kind <= 1:
        content[start] ^= 1 << rng.randrange(8)
    elif kind == 2:
        content[start] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif kind <= 4:
        form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
        text = struct.pack(form, number(rng) % 2 ** (8 * struct.calcsize(form)))
        content[start : start + len(text)] = text
    elif kind == 5:
        del content[start:]
    elif kind == 6:
        del content[span]
    elif kind == 7:
        content[start:start] = content[span] * rng.choice((1, 2, 50))
    elif kind == 8:
        content[start:start] = rng.randbytes(rng.randrange(1, 64))
    else:
        part = rng.randrange(len(other) or 1)
        content[start:] = other[part:] or bytes(len(content) - start)
