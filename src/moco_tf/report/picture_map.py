"""The map of a report: where its points are, their colours, and what is typical of a part."""

from __future__ import annotations

from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.report.images import sprite, thumbnail
from moco_tf.report.layout import clusters_of, laid_out
from moco_tf.report.sample import Sample

POINT = 32  # pixels, a side of the thumbnails under the pointer
FEW_COLOURS, MANY_COLOURS = 8, 20  # the page's palette; more are taken from the colour circle
WIDTH, HEIGHT, MARGIN = 1000, 640, 12  # of the map


def map_of(
    config: Config, sample: Sample, features: np.ndarray, layout: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the template shows of unit features [M, D], and its figures."""
    places = laid_out(features, layout, config.seed)
    clusters = clusters_of(features)
    groups = _groups(sample, [one.members for one in clusters])
    points = np.round(MARGIN + places * [WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN], 1)
    thumbnails = [_square(picture) for picture in sample.crops]
    sheet, columns = sprite(thumbnails, POINT)
    tips = [
        name if (label := sample.class_of(place)) is None else f"{label}: {name}"
        for place, name in enumerate(sample.names)
    ]
    described = [(one, _described(sample, one.members)) for one in clusters]
    shown = {
        "points": points.tolist(), "groups": groups, "sheet": sheet, "columns": columns,
        "size": POINT, "width": WIDTH, "height": HEIGHT, "layout": layout,
        "sample": sample, "clusters": described,
        "script": {"columns": columns, "size": POINT, "tips": tips},
    }  # fmt: skip
    figures = {
        "layout": layout,
        "pictures": sample.names,
        "classes": [sample.class_of(place) for place in range(len(sample.names))],
        "places": np.round(places, 4).tolist(),
        "clusters": [
            {"pictures": len(one.members), "typical": [sample.names[i] for i in one.typical]}
            for one in clusters
        ],
    }
    return shown, figures


def _square(picture: np.ndarray) -> np.ndarray:
    """uint8 [POINT, POINT, 3] of a square picture."""
    small = thumbnail(picture, POINT)
    if len(small) == POINT:
        return small
    times = np.arange(POINT) * len(small) // POINT
    return small[times][:, times]


def _groups(sample: Sample, clusters: list[np.ndarray]) -> list[tuple[str, str, list[int]]]:
    """(name, colour, pictures) of each class, or without labels of each cluster."""
    if sample.labels is None:
        return [
            (f"cluster {number + 1}", f"var(--c{number})", members.tolist())
            for number, members in enumerate(clusters)
        ]
    labels, counts = np.unique(sample.labels, return_counts=True)
    most = sorted(labels[np.argsort(-counts, kind="stable")][:MANY_COLOURS].tolist())
    groups = []
    for number, label in enumerate(most):
        circle = f"hsl({360 * number // len(most)} 65% 50%)"
        colour = f"var(--c{number})" if len(most) <= FEW_COLOURS else circle
        members = np.flatnonzero(sample.labels == label).tolist()
        groups.append((sample.class_of(members[0]) or "without a label", colour, members))
    others = np.flatnonzero(~np.isin(sample.labels, most)).tolist()
    return [*groups, ("other classes", "var(--quiet)", others)] if others else groups


def _described(sample: Sample, members: np.ndarray) -> str:
    """How many pictures there are, and of which class most of them are."""
    text = f"{len(members)} pictures"
    if sample.labels is None:
        return text
    labels, counts = np.unique(sample.labels[members], return_counts=True)
    most = int(counts.argmax())
    name = sample.class_of(members[np.flatnonzero(sample.labels[members] == labels[most])[0]])
    return f"{text}, {100 * counts[most] / len(members):.0f} % {name or 'without a label'}"
