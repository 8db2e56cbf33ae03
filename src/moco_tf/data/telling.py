"""How far a pass over files is, told now and then. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from moco_tf.data.decoder_messages import without_decoders


def telling(told: Callable[[str], None], seconds: float) -> Callable[[str], None]:
    """Returns a function that passes a line on to `told` once in so many seconds, not at first."""
    last = time.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            told(line)

    return tell


@contextlib.contextmanager
def telling_without_decoders(
    told: Callable[[str], None], seconds: float
) -> Iterator[Callable[[str], None]]:
    """As `telling`; meanwhile libjpeg and libtiff print nothing. What is told may go to stderr."""
    with contextlib.ExitStack() as quiet:
        quiet.enter_context(without_decoders())

        def aloud(line: str) -> None:
            quiet.close()
            told(line)
            quiet.enter_context(without_decoders())

        yield telling(aloud, seconds)
