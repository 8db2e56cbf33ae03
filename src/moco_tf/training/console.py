"""Where lines and progress are shown: a terminal, a notebook, a file. Imports no TensorFlow."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

Update = Callable[[int, str], None]  # with the step, and a text on it
SPEED_SECONDS = 900.0  # over which the speed is measured that tells the time that is left
WIDE = 120  # columns of a terminal, from which on there is room for a bar
BARS = "▁▂▃▄▅▆▇█"


class Console(rich.console.Console):
    """Plain lines. Where nobody reads them any more, the command ends as after `print`."""

    def __init__(self, stderr: bool):
        # Or a notebook would get each line as HTML, and codes for the colours of a terminal.
        forced = False if in_notebook() else None
        super().__init__(
            stderr=stderr,
            highlight=False,
            soft_wrap=True,
            force_terminal=forced,
            force_jupyter=forced,
        )

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return rich.console.Console().is_jupyter


@contextlib.contextmanager
def progress(console: rich.console.Console, last_step: int, step: int) -> Iterator[Update | None]:
    """Gives what draws the progress in place, or None where only lines can be printed.

    Args:
        step: the run begins after it.
    """
    if in_notebook():
        from IPython.display import display

        shown = display({"text/plain": ""}, raw=True, display_id=True)
        yield lambda now, text: shown.update(
            {"text/plain": f"step {now}/{last_step}  {text}"}, raw=True
        )
    elif console.is_terminal:
        columns = _columns(console.width)
        with Progress(
            *columns, console=console, speed_estimate_period=SPEED_SECONDS, expand=True
        ) as bar:
            task = bar.add_task("", total=last_step, completed=step)
            yield lambda now, text: bar.update(task, completed=now, description=text)
    else:
        yield None


def _columns(width: int) -> list[ProgressColumn]:
    """The numbers, of which the last are cut off where they do not fit, and what is left to do."""
    whole = Column(no_wrap=True)
    text = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)
    )
    done: list[ProgressColumn] = [TextColumn("{task.percentage:.0f}%", table_column=whole)]
    if width >= WIDE:
        done = [BarColumn(12, table_column=whole), MofNCompleteColumn(table_column=whole)]
    left = TimeRemainingColumn(compact=True, table_column=whole)
    return [text, *done, TextColumn("ETA", table_column=whole), left]


def sparkline(values: Sequence[float], width: int = 8) -> str:
    """Returns all values as a line of at most `width` bars, each of the mean of its part.

    The lowest mean has the lowest bar. Numbers that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    parts = np.array_split(finite, min(len(finite), width))
    means = np.array([part.mean() for part in parts])
    spread = np.ptp(means)
    heights = (means - means.min()) / spread if spread else np.zeros(len(means))
    return "".join(BARS[round(height * (len(BARS) - 1))] for height in heights.tolist())
