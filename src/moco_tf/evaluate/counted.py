"""How far a pass over images is, said every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

EVERY = 5.0  # seconds


def counted(
    batches: Iterable[Any], count: int, what: str, say: Callable[[str], None] | None
) -> Iterator[Any]:
    """Yields the batches; says every few seconds how many of `count` images are done, and how fast.

    The first batch, whose user compiles, counts for speed only where it stands alone.

    Args:
        batches: arrays [b, ...], or tuples of them; the last may be filled up beyond `count`.
        what: which images, as the line begins: "test images".
        say: called with each line; none: nothing is said.
    """
    begun = told = time.perf_counter()
    done = first = 0
    for batch in batches:
        yield batch
        done = min(done + len(batch[0] if isinstance(batch, tuple) else batch), count)
        now = time.perf_counter()
        if say is not None and now - told >= EVERY and done < count:
            rate = (done - first) / (now - begun)
            say(f"{what}: {done}/{count}  {rate:.0f} images/s")
            told = now
        if not first:
            begun, first = now, done
