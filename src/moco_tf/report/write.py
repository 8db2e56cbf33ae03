"""A report of one or several runs: all sections put together, as a page and as figures.

Imports no TensorFlow: what needs an encoder or pictures comes from `report.seen`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moco_tf.report.charts import Chart
from moco_tf.report.curves import charts_of, overlaid
from moco_tf.report.page import render, write
from moco_tf.report.read import Found
from moco_tf.report.settings import (
    Setting,
    command_of,
    differences,
    files_of,
    numbers_of,
    settings_of,
)
from moco_tf.report.verdict import Verdict, verdict_of
from moco_tf.runs.folder import REPORT

SECTIONS = {
    "verdict": "Verdict",
    "curves": "Curves",
    "views": "What the network sees",
    "neighbours": "What it finds alike",
    "map": "Map",
    "confusion": "What it mixes up",
    "config": "How it was made",
}
OF_THE_RUN = "It is in the report of the pre-training run: moco-tf report RUN."
LOOKED_AT = ("views", "neighbours", "map", "confusion")  # sections that show pictures


@dataclass(frozen=True)
class Run:
    """A folder as the report shows it."""

    label: str
    found: Found
    verdict: Verdict
    charts: dict[str, Chart]
    settings: list[Setting]
    command: str
    numbers: dict[str, Any]
    files: list[tuple[str, str]]


@dataclass(frozen=True)
class Seen:
    """The sections with pictures: what a template shows, and their figures without pictures.

    `absent` says of each of the others why it is not there.
    """

    shown: Mapping[str, Any]
    figures: Mapping[str, Any]
    absent: Mapping[str, str]


def nothing_seen(why: str) -> Seen:
    """All sections with pictures are left out, for one reason."""
    return Seen({}, {}, dict.fromkeys(LOOKED_AT, why))


def default_out(runs: Sequence[Found]) -> Path:
    """Returns the file of a report: in the run's folder, or of several runs here."""
    return runs[0].path / REPORT if len(runs) == 1 else Path(REPORT)


def write_report(runs: Sequence[Found], seen: Seen, out: Path) -> dict[str, Any]:
    """Writes the page of `runs` to `out` and returns the figures that it shows.

    Raises:
        InputError: if it cannot be written.
    """
    labels = _labels(runs)
    shown = [_run(found, label, out) for found, label in zip(runs, labels, strict=True)]
    charts = dict(shown[0].charts)
    if len(shown) > 1:
        charts = overlaid([(run.label, run.charts) for run in shown])
    else:
        for result in runs[0].results:
            charts |= {
                f"{result.name}/{n}": _named(c, result) for n, c in charts_of(result).items()
            }
    different = differences(runs) if len(runs) > 1 else {}
    page = render(
        "report.html",
        title=" and ".join(labels),
        subtitle=_subtitle(runs),
        sections=SECTIONS,
        runs=shown,
        charts=charts,
        different=different,
        seen=seen.shown,
        absent=seen.absent,
    )
    write(out, page)
    return _figures(shown, charts, different, seen) | {"out": str(out), "bytes": len(page)}


def _run(found: Found, label: str, out: Path) -> Run:
    return Run(
        label,
        found,
        verdict_of(found),
        charts_of(found),
        settings_of(found),
        command_of(found),
        numbers_of(found),
        files_of(found, out),
    )


def _labels(runs: Sequence[Found]) -> list[str]:
    """The folders' names, or their paths where two have one name."""
    names = [found.name for found in runs]
    return names if len(set(names)) == len(names) else [str(found.path) for found in runs]


def _named(chart: Chart, result: Found) -> Chart:
    return Chart(f"{result.name}: {chart.title}", chart.lines, chart.x_title, chart.about)


def _subtitle(runs: Sequence[Found]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs over one another"
    config, step = runs[0].config, runs[0].step
    if config is None:
        return f"results of the encoder in {runs[0].fields.get('run', runs[0].path.parent)}"
    return f"{config.encoder} on {config.data}, recipe {config.recipe}, step {step}"


def _figures(
    runs: Sequence[Run], charts: Mapping[str, Chart], different: Mapping[str, Any], seen: Seen
) -> dict[str, Any]:
    curves = {}
    for name, chart in charts.items():
        lines = [line.thinned() for line in chart.lines]
        drawn = {line.name: {"x": list(line.x), "y": list(line.y)} for line in lines}
        curves[name] = {"title": chart.title, "x": chart.x_title, "lines": drawn}
    return {
        "runs": [str(run.found.path) for run in runs],
        "missing": [list(run.found.missing) for run in runs],
        "verdict": [
            {"learned": run.verdict.learned, "sentences": run.verdict.sentences} for run in runs
        ],
        "curves": curves,
        **{name: seen.figures.get(name) for name in LOOKED_AT},
        "absent": dict(seen.absent),
        "config": {
            "commands": [run.command for run in runs],
            "marked": [{one.name: one.value for one in run.settings if one.marked} for run in runs],
            "numbers": [run.numbers for run in runs],
            "results": [{one.name: numbers_of(one) for one in run.found.results} for run in runs],
            "versions": [run.found.versions for run in runs],
            "differences": dict(different),
        },
    }
