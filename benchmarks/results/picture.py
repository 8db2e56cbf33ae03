"""Curves with their spread as SVG, without a plotting library."""

import statistics
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 400, 56, 44, 16
COLOURS = ("#1f5fa8", "#c4571a", "#3a8a3a", "#7a4fa3")


def curves_svg(curves: dict[str, list[list[float]]], x_name: str, y_name: str) -> str:
    """Returns an SVG: of each name the mean over its curves, between their least and greatest.

    Args:
        curves: name -> curves of equal length [points], point i at x = i + 1.
    """
    points = len(next(iter(curves.values()))[0])
    values = [value for several in curves.values() for curve in several for value in curve]
    low, high = min(values) // 5 * 5, -(-max(values) // 5) * 5 or 5

    def place(index, value):
        x = LEFT + (WIDTH - LEFT - 20) * index / max(points - 1, 1)
        y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for level in range(int(low), int(high) + 1, 5):
        y = place(0, level).split(",")[1]
        parts.append(f'<path d="M{LEFT},{y} H{WIDTH - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{level}</text>')
    for index in range(0, points, max(1, points // 10)):
        x = place(index, low).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - 26}" text-anchor="middle">{index + 1}</text>')
    for number, (name, several) in enumerate(curves.items()):
        colour, columns = COLOURS[number % len(COLOURS)], list(zip(*several, strict=True))
        top = [place(i, max(column)) for i, column in enumerate(columns)]
        below = [place(i, min(column)) for i, column in enumerate(columns)]
        mean = [place(i, statistics.fmean(column)) for i, column in enumerate(columns)]
        band, line = " ".join([*top, *reversed(below)]), " ".join(mean)
        parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.18"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = HEIGHT - BOTTOM - 16 - 18 * number
        parts.append(
            f'<text x="{WIDTH - 30}" y="{y}" text-anchor="end" fill="{colour}">'
            f"{escape(name)}, {len(several)} seeds</text>"
        )
    middle, end = (HEIGHT - BOTTOM + TOP) // 2, HEIGHT - 6
    parts.append(f'<text x="{WIDTH // 2}" y="{end}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(
        f'<text transform="translate(16,{middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_name)}</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"
