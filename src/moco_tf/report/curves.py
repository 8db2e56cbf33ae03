"""The curves of a run, or of several over one another. Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from moco_tf.config import Config
from moco_tf.report.charts import Chart, Line
from moco_tf.report.read import Found, Row
from moco_tf.training.health import health_settings

EVALUATED = {  # in an evaluation -> the chart's title, and how to read it
    "knn_top1": ("kNN top-1, %", "Classes found by the nearest training images."),
    "view_retrieval": ("two views find each other, %", "Without labels; higher is better."),
    "effective_rank": ("effective rank", "Dimensions that the features use; higher is better."),
    "alignment": ("alignment", "Distance of two views of a picture; lower is better."),
    "uniformity": ("uniformity", "Spread over the sphere, 0 to -4; lower is better."),
}


def charts_of(found: Found) -> dict[str, Chart]:
    """Returns the charts of a folder by name, those that have points."""
    charts = _pretraining(found, found.config) if found.config else _classifier(found)
    return {
        name: Chart(
            chart.title,
            tuple(line for line in chart.lines if any(y is not None for y in line.y)),
            "step" if found.epoch_steps is None else "epoch",
            chart.about,
        )
        for name, chart in charts.items()
        if any(y is not None for line in chart.lines if not line.dashed for y in line.y)
    }


def overlaid(runs: Sequence[tuple[str, dict[str, Chart]]]) -> dict[str, Chart]:
    """Returns the charts of several runs, each chart with the lines of all.

    Args:
        runs: name and `charts_of` each run.
    """
    names = list(dict.fromkeys(name for _, charts in runs for name in charts))
    by_step = any(chart.x_title == "step" for _, charts in runs for chart in charts.values())
    together = {}
    for name in names:
        lines = _lines_of([(label, charts[name]) for label, charts in runs if name in charts])
        first = next(charts[name] for _, charts in runs if name in charts)
        x_title = "epoch or step" if by_step else first.x_title
        together[name] = Chart(first.title, lines, x_title, first.about)
    return together


def _lines_of(charts: Sequence[tuple[str, Chart]]) -> tuple[Line, ...]:
    """The lines of all runs. A level that several have is drawn once, as wide as all of them."""
    lines: list[Line] = []
    levels: dict[tuple[str, float | None], int] = {}
    for label, line in ((label, line) for label, chart in charts for line in chart.lines):
        level = (line.name, line.y[0])
        if line.dashed and level in levels:
            known = lines[levels[level]]
            x = sorted({min(*known.x, *line.x), max(*known.x, *line.x)})
            lines[levels[level]] = replace(known, x=x, y=[line.y[0]] * len(x))
            continue
        if line.dashed:
            levels[level] = len(lines)
        lines.append(replace(line, name=f"{label}: {line.name}"))
    # The first colours go to the curves, so that a run has the same one in most charts.
    order = sorted(range(len(lines)), key=lambda place: lines[place].dashed)
    colors = {place: color for color, place in enumerate(order)}
    return tuple(replace(line, color=colors[place]) for place, line in enumerate(lines))


def _pretraining(found: Found, config: Config) -> dict[str, Chart]:
    rows, settings = found.logged, health_settings(config)
    negatives = settings["queue_size"]
    chance = settings["directions"] * math.log(1 + negatives)
    about = "Below its chance level the positive key is found among the negatives."
    charts = {
        "loss": Chart(
            "InfoNCE loss",
            (_line(found, rows, "loss", "loss"), _level(found, "chance, log(1+K)", chance)),
            about=about,
        ),
        "accuracy": Chart(
            f"(K+1)-way accuracy, %, K = {negatives}",
            (_line(found, rows, "top1", "top-1"), _line(found, rows, "top5", "top-5")),
            about="How often the positive key is the first, or among the first five.",
        ),
    }
    for name, (title, reading) in EVALUATED.items():
        untrained = next((r.get(name) for r in found.evaluated if not r["step"]), None)
        pixels = next((r.get(f"{name}_pixels") for r in found.evaluated if not r["step"]), None)
        lines = [_line(found, found.evaluated, name, "trained")]
        lines += [
            _level(found, what, level)
            for what, level in (("untrained", untrained), ("raw pixels", pixels))
            if level is not None
        ]
        charts[name] = Chart(title, tuple(lines), about=reading)
    spread = 1 / math.sqrt(config.dim)
    charts |= {
        "feature_std": Chart(
            "feature standard deviation",
            (
                _line(found, rows, "feature_std", "of the features"),
                _level(found, "spread over the sphere, 1/sqrt(dim)", spread),
            ),
            about="Near 0 the features have collapsed.",
        ),
        "similarity": Chart(
            "similarity",
            (
                _line(found, rows, "positive_similarity", "of the two views"),
                _line(found, rows, "negative_similarity", "of different images"),
            ),
            about="Cosine; the two should part.",
        ),
        "lr": Chart("learning rate", (_line(found, rows, "lr", "learning rate"),)),
        "images_per_second": Chart(
            "images/s", (_line(found, rows, "images_per_second", "images/s"),)
        ),
        "data_wait": Chart(
            "waiting for images, %",
            (_line(found, rows, "data_wait", "of the time", scale=100),),
            about="Near 0 the input path keeps up.",
        ),
    }
    if len({row.get("momentum") for row in rows}) > 1:
        line = _line(found, rows, "momentum", "key momentum")
        charts["key_momentum"] = Chart("key momentum", (line,))
    return charts


def _classifier(found: Found) -> dict[str, Chart]:
    """Of a probe or a fine-tuning; of several learning rates each has its lines."""
    rows = found.logged
    names = [name for row in rows[-1:] for name in row if name.startswith("top1")]
    ends = [name.removeprefix("top1") for name in names]
    ends = [end for end in ends if end] or ends  # the one without a rate is the first of them
    accuracy, loss = [], []
    for end in ends:
        rate = f", lr {end.removeprefix('_lr')}" if end else ""
        accuracy += [
            _line(found, rows, f"top1{end}", f"training{rate}"),
            _line(found, rows, f"val_top1{end}", f"validation{rate}"),
        ]
        loss += [
            _line(found, rows, f"loss{end}", f"training{rate}"),
            _line(found, rows, f"val_loss{end}", f"validation{rate}"),
        ]
    return {
        "classifier_accuracy": Chart("classifier's top-1, %", tuple(accuracy)),
        "classifier_loss": Chart("classifier's loss", tuple(loss)),
        "lr": Chart("learning rate", (_line(found, rows, "lr", "learning rate"),)),
    }


def _line(found: Found, rows: list[Row], key: str, name: str, *, scale: float = 1) -> Line:
    per = found.epoch_steps or 1
    there = [row for row in rows if key in row]
    y = [None if row[key] is None else scale * row[key] for row in there]
    return Line(name, [row["step"] / per for row in there], y)


def _level(found: Found, name: str, level: float) -> Line:
    """A horizontal line from the first row to the last."""
    steps = [row["step"] / (found.epoch_steps or 1) for row in found.rows]
    ends = sorted({min(steps, default=0), max(steps, default=0)})
    return Line(name, ends, [level] * len(ends), dashed=True)
