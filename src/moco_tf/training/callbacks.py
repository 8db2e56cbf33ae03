"""A user's own functions, called while a run trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from moco_tf.training.reporting import Reporter
from moco_tf.training.signals import Interrupted

if TYPE_CHECKING:
    from moco_tf.training.loop import Loop

Callback = Callable[[int, dict[str, float]], object]  # with the step and its row of numbers


@contextlib.contextmanager
def called(callbacks: Sequence[Callback], reporter: Reporter, loop: Loop) -> Iterator[None]:
    """While open, `callbacks` are called with each row of numbers that `reporter` has written.

    The first error of one ends `loop` after the step, saved, and is raised here then.
    """
    errors: list[BaseException] = []

    def call(step: int, values: dict[str, float]) -> None:
        try:
            for callback in callbacks:
                callback(step, dict(values))
        except BaseException as error:  # Ctrl-C in a callback too
            errors.append(error)
            loop.stop.ask()

    reporter.on_metrics = call
    try:
        yield
    except Interrupted:
        if not errors:
            raise
    if errors:
        raise errors.pop()  # or its traceback would hold the list that holds it
