"""`moco-tf pack`."""

import contextlib
import json
import os
from pathlib import Path

from moco_tf.commands.flags import share
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.training.signals import Cancelled, stopped_exit_code


def add(commands) -> None:
    """Adds the command to the subparsers."""
    pack = commands.add_parser(
        "pack", help="put the images of a folder into a few large files", allow_abbrev=False
    )
    pack.add_argument(
        "source", metavar="SOURCE", help="folder of images, or what else --data takes"
    )
    pack.add_argument("target", metavar="TARGET", help="folder to write, for --data")
    pack.add_argument(
        "--short-side", type=int, metavar="N", help="reduce larger images to this, pixels [none]"
    )
    pack.add_argument(
        "--quality", type=int, metavar="Q", help="of the JPEGs that --short-side makes, 1-100 [95]"
    )
    pack.add_argument(
        "--max-bad-images",
        type=share,
        default=0.01,
        metavar="X",
        help="largest share of unreadable files to leave out before refusing [0.01]",
    )
    pack.set_defaults(run=_pack)


def _pack(options) -> int:
    check_data(options.source)
    start_tensorflow()
    from moco_tf.data.pack.write import pack
    from moco_tf.training.reporting import Console

    console = Console(stderr=True)
    try:
        with _progress_bar(console) as progress:
            result = pack(
                options.source,
                Path(os.path.expanduser(options.target)),
                short_side=options.short_side,
                quality=options.quality,
                max_bad_images=options.max_bad_images,
                line=lambda text: console.print(text, markup=False),
                progress=progress,
            )
    except KeyboardInterrupt as stopped:
        number = stopped_exit_code(stopped) - 128
        raise Cancelled(number, "whole shards are kept; the same command goes on.") from None
    print(json.dumps(result) if options.json else _said(result))
    return 0


@contextlib.contextmanager
def _progress_bar(console):
    """Gives a function of the images written and of all; it draws on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _said(result: dict) -> str:
    done = "was packed already" if result["already_packed"] else f"{result['seconds']:.0f} s"
    return (
        f"{result['target']}: {result['images']} images ({result['test_images']} for tests), "
        f"{result['bytes'] / 1e6:.1f} MB in {result['shards']} shards, before "
        f"{result['source_bytes'] / 1e6:.1f} MB; {done}"
    )
