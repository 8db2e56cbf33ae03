"""`moco-tf report` and `Run.report()`: what runs have learned, in one HTML file."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moco_tf.api import starting
from moco_tf.api.run import text_of
from moco_tf.errors import InputError
from moco_tf.names.data import text_or_object
from moco_tf.report.layout import check_layout
from moco_tf.report.read import Found, read
from moco_tf.report.write import OF_THE_RUN, Seen, default_out, nothing_seen, write_report

if TYPE_CHECKING:
    from moco_tf.training.reporting import Reporter

MOST_PICTURES = 5000
OF_ONE_RUN = "It is in the report of each run alone."
NOT_ASKED = "It was left out: --pictures 0."


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
    runs: Sequence[str],
    *,
    out: str | os.PathLike[str] | None = None,
    data: Any = None,
    pictures: int | None = None,
    layout: str = "pca",
    reporter: Reporter | None = None,
) -> Report:
    """Writes the report of a run, or of several over one another; changes nothing else.

    Args:
        runs: folders of runs, or of the results of a probe or a fine-tuning.
        out: HTML file to write, also over another. None: report.html in the run's folder; of
            several runs in this one.
        data: the pictures to look at, as `pretrain` takes them. None: the run's own.
        pictures: how many are embedded, at least 2; 0: none, and TensorFlow is not started. None:
            as many as take some seconds, 5,000 at most.
        layout: of the map, "pca" or "tsne" (which needs scikit-learn).
        reporter: where the progress goes.

    Raises:
        InputError: no such run or pictures, or the file cannot be written.
    """
    began = time.monotonic()
    if pictures is not None and not (pictures == 0 or 2 <= pictures <= MOST_PICTURES):
        raise InputError(
            f"pictures must be 0, or from 2 to {MOST_PICTURES}; received pictures={pictures}."
        )
    check_layout(layout)
    found = [read(run) for run in runs]
    target = Path(text_of(out)) if out else default_out(found)
    seen = _seen(found, data, pictures, layout, reporter)
    figures = write_report(found, seen, target)
    return Report(target, figures | {"seconds": round(time.monotonic() - began, 3)})


def _seen(
    found: Sequence[Found], data: Any, pictures: int | None, layout: str, reporter: Reporter | None
) -> Seen:
    """The sections with pictures, of a single run whose encoder and pictures are there."""
    if len(found) > 1 or found[0].config is None:
        return nothing_seen(OF_ONE_RUN if len(found) > 1 else OF_THE_RUN)
    if pictures == 0:
        return nothing_seen(NOT_ASKED)
    run, (text, source) = found[0].path, text_or_object(data)
    try:
        config, images = starting.check_images(run, source if text is None else text)
    except InputError as error:
        if data is not None:
            raise
        return nothing_seen(str(error))
    from moco_tf.training.reporting import Reporter

    reporter = reporter or Reporter()
    reporter.stage("starting TensorFlow")
    starting.start_tensorflow()
    from moco_tf.data.sources import open_images
    from moco_tf.report.seen import look

    reporter.stage(f"looking at the pictures of {config.data if data is None else text or 'data'}")
    try:
        train, test = open_images(
            images,
            max_bad_images=config.max_bad_images,
            seed=config.seed,
            image_size=config.image_size,
            told=reporter.stage,
        )
    except InputError as error:
        if data is not None:
            raise
        return nothing_seen(str(error))
    return look(
        run,
        config,
        train,
        test,
        pictures=pictures,
        images_per_second=found[0].speed,
        layout=layout,
        warn=reporter.line,
    )
