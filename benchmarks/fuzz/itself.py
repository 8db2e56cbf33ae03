"""What the watchers must notice, done on purpose: for their own test."""

import os
import pickle
from pathlib import Path


def itself(given: Path):
    """No reader: its inputs say what harm is to be done."""
    from moco_tf.errors import InputError

    held = []
    outside = given.parent / "outside" / "ran"

    def refuse(message: str):
        raise InputError(message)

    harms = {
        "a line": lambda: refuse("epochs must be at least 1"),
        "an exception": lambda: held[1],
        "an end": os.abort,
        "a hang": lambda: [None for _ in iter(int, 1)],
        "memory": lambda: held.append(b"x" * 2**28),
        "a file": lambda: outside.write_text("x"),
        "a reading": lambda: Path("/etc/hostname").read_bytes(),
        "a program": lambda: os.system("true"),
        "a pickle": lambda: pickle.loads(b"cos\ngetcwd\n)R."),
    }

    def read(case: Path) -> str:
        held.clear()
        harms[(case / "a").read_text()]()
        return "read"

    return lambda rng: {"a": list(harms)[int(rng.number) % len(harms)].encode()}, read, ""
