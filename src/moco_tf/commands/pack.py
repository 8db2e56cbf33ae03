"""`moco-tf pack`."""

import contextlib
import os
from pathlib import Path

from moco_tf.api import starting
from moco_tf.commands.parser import Outcome, Parser, share
from moco_tf.files.store import is_url
from moco_tf.training.signals import Cancelled, stopped_exit_code


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("source", metavar="SOURCE", help="images: what --data takes elsewhere")
    command.add_argument("target", metavar="TARGET", help="folder to write, for --data")
    command.add_argument(
        "--short-side", type=int, metavar="N", help="reduce larger images to this, pixels [none]"
    )
    command.add_argument(
        "--quality", type=int, metavar="N", help="of the JPEGs that --short-side makes, 1-100 [95]"
    )
    command.add_argument(
        "--max-bad-images", type=share, default=0.01, metavar="X",
        help="largest share of unreadable files to leave out before refusing [%(default)s]",
    )  # fmt: skip


def run(source: str, target: str, json: bool, **settings) -> Outcome:
    if not is_url(source):  # of a pack, which is refused below
        starting.check_data(source)
    starting.start_tensorflow()
    from moco_tf.data.pack.write import pack
    from moco_tf.training.console import Console

    console = Console(stderr=True)
    settings["line"] = lambda text: console.print(text, markup=False)
    try:
        with _progress_bar(console) as progress:
            folder = Path(os.path.expanduser(target))
            result = pack(source, folder, progress=progress, **settings)
    except KeyboardInterrupt as stopped:
        number = stopped_exit_code(stopped) - 128
        raise Cancelled(number, "whole shards are kept; the same command goes on.") from None
    done = "was packed already" if result["already_packed"] else f"{result['seconds']:.0f} s"
    text = (
        f"{result['target']}: {result['images']} images ({result['test_images']} for tests), "
        f"{result['bytes'] / 1e6:.1f} MB in {result['shards']} shards, before "
        f"{result['source_bytes'] / 1e6:.1f} MB; {done}"
    )
    return result, text, True


@contextlib.contextmanager
def _progress_bar(console):
    """Gives a function of the images written and of all; it draws on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
