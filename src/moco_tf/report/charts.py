"""Charts of lines, as the page's script draws them. Imports no TensorFlow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_POINTS = 400  # of a line; a longer one is drawn by the means of neighbouring points


@dataclass(frozen=True)
class Line:
    """Points of one colour. A point whose y is None or not finite is left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    dashed: bool = False  # a level to compare with
    color: int | None = None  # of the page's palette; none: the line's place in its chart

    def thinned(self) -> Line:
        """Returns the line with its finite points, `MOST_POINTS` at most."""
        points = [
            (x, y)
            for x, y in zip(self.x, self.y, strict=True)
            if y is not None and math.isfinite(y)
        ]
        if len(points) > MOST_POINTS:
            edges = [len(points) * n // MOST_POINTS for n in range(MOST_POINTS + 1)]
            groups = [points[a:b] for a, b in itertools.pairwise(edges)]
            points = [
                (sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups
            ]
        x, y = (tuple(column) for column in zip(*points, strict=True)) if points else ((), ())
        return Line(self.name, x, y, self.dashed, self.color)


@dataclass(frozen=True)
class Chart:
    """Lines over one axis x.

    Args:
        title: what the y axis shows, with its unit.
        about: one sentence on how to read it.
    """

    title: str
    lines: tuple[Line, ...]
    x_title: str = "epoch"
    about: str = ""

    @property
    def drawn(self) -> dict[str, Any]:
        """What the script takes: all lines over one sorted x, None where a line has no point."""
        lines = [line.thinned() for line in self.lines]
        x = sorted({value for line in lines for value in line.x})
        places = {value: place for place, value in enumerate(x)}
        columns = []
        for line in lines:
            column: list[float | None] = [None] * len(x)
            for value, y in zip(line.x, line.y, strict=True):
                column[places[value]] = float(f"{y:.6g}")
            columns.append(column)
        looks = [
            {
                "name": line.name,
                "dashed": line.dashed,
                "color": place if line.color is None else line.color,
            }
            for place, line in enumerate(lines)
        ]
        rounded = [float(f"{value:.6g}") for value in x]
        return {"title": self.title, "x": self.x_title, "lines": looks, "data": [rounded, *columns]}

    @property
    def spoken(self) -> str:
        """The chart in words, for those who do not see it."""
        ends = []
        for line in (line.thinned() for line in self.lines):
            if line.y:
                first, last = line.y[0], line.y[-1]
                level = f"{last:.4g}" if first == last else f"from {first:.4g} to {last:.4g}"
                ends.append(f"{line.name} {level}")
        return f"{self.title} by {self.x_title}: {'; '.join(ends) or 'no points'}"
