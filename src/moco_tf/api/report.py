"""`moco-tf report` and `Run.report()`: what runs have learned, in one HTML file."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moco_tf.report.read import read
from moco_tf.report.write import default_out, nothing_seen, write_report

if TYPE_CHECKING:
    from moco_tf.training.reporting import Reporter


@dataclass(frozen=True)
class Report:
    """A page that was written. In a notebook it shows itself.

    Attributes:
        path: the HTML file.
        figures: what it shows, as `moco-tf report --json` prints.
    """

    path: Path
    figures: dict[str, Any]

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe srcdoc="{page}" title="report" width="100%" height="700" '
            f'style="border: 0"></iframe>'
        )


def report(
    runs: Sequence[str], *, out: str | None = None, reporter: Reporter | None = None
) -> Report:
    """Writes the report of a run, or of several over one another; changes nothing else.

    Args:
        runs: folders of runs, or of the results of a probe or a fine-tuning.
        out: HTML file to write, also over another. None: report.html in the run's folder; of
            several runs in this one.
        reporter: where the progress goes.

    Raises:
        InputError: no such run, or the file cannot be written.
    """
    began = time.monotonic()
    found = [read(run) for run in runs]
    target = Path(out) if out else default_out(found)
    figures = write_report(found, nothing_seen("It is not in this report."), target)
    return Report(target, figures | {"seconds": round(time.monotonic() - began, 3)})
