"""The report at the end of a training. Whatever fails there is told in one line, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from moco_tf.config import Config
from moco_tf.errors import line_of
from moco_tf.report.read import Found, read
from moco_tf.report.write import OF_THE_RUN, Seen, nothing_seen, write_report
from moco_tf.runs.folder import REPORT

if TYPE_CHECKING:
    from moco_tf.report.album import Album


def report_pretraining(
    run: Path,
    config: Config,
    album: Album,
    say: Callable[[str], None],
) -> bool:
    """Writes report.html into the folder of a run that has ended; returns whether it could.

    Args:
        album: of the run.
        say: called with the line on what failed.
    """

    def seen(found: Found) -> Seen:
        from moco_tf.report.seen import look

        return look(
            run,
            config,
            album.train,
            album.test,
            pictures=None,
            images_per_second=found.speed,
            draw=lambda: album.drawn,
            warn=say,
        )

    return _report(run, seen, say)


def report_results(folder: Path, say: Callable[[str], None]) -> bool:
    """Writes report.html into the folder of a probe or a fine-tuning; returns whether it could."""
    return _report(folder, lambda _: nothing_seen(OF_THE_RUN), say)


def _report(folder: Path, seen: Callable[[Found], Seen], say: Callable[[str], None]) -> bool:
    try:
        found = read(folder)
        write_report([found], seen(found), folder / REPORT)
    except Exception as error:  # the training has come to its end whatever this is
        say(f"the report was not written ({line_of(error)}); try again: moco-tf report {folder}")
        return False
    return True
