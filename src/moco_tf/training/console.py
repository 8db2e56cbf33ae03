"""Where lines and progress are shown: a terminal, a notebook, a file. Imports no TensorFlow."""

import contextlib
from collections.abc import Callable, Iterator

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Update = Callable[[int, str], None]  # with the step, and a text on it


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
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("", total=last_step, completed=step)
            yield lambda now, text: bar.update(task, completed=now, description=text)
    else:
        yield None
