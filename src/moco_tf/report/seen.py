"""The sections with pictures: what the network sees, finds alike, and mixes up, and a map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.errors import DivergedError, InputError
from moco_tf.report.alike import Confusion, Query, confusion_of, neighbours_of
from moco_tf.report.images import sprite, thumbnail
from moco_tf.report.layout import clusters_of, laid_out
from moco_tf.report.sample import Sample, choose, count_for, features_of
from moco_tf.report.views import EPOCHS, Drawn, views_of
from moco_tf.report.write import LOOKED_AT, Seen
from moco_tf.runs.overview import newest_saved

KINDS = {"trained": "trained", "untrained": "untrained", "pixels": "raw pixels"}
POINT = 32  # pixels, a side of the thumbnails under the pointer
FEW_COLOURS, MANY_COLOURS = 8, 20  # the page's palette; more are taken from the colour circle
WIDTH, HEIGHT, MARGIN = 1000, 640, 12  # of the map
OTHER_IMAGES = "The pictures are not those that the run was trained on."
NO_LABELS = "The pictures have no labels, so there are no classes to mix up."


def look(
    run: Path,
    config: Config,
    train: Images,
    test: Images | None,
    *,
    pictures: int | None,
    images_per_second: float | None,
    layout: str = "pca",
    augment: Callable | None = None,
    warn: Callable[[str], None],
) -> Seen:
    """Returns the sections with pictures of the run's newest checkpoint; changes nothing.

    Args:
        pictures: how many are embedded; none: as many as take some seconds.
        images_per_second: of the training, where it is known.
        layout: see `laid_out`.
        augment: the function that makes the run's views, if one does.
        warn: called with a line on a damaged checkpoint.
    """
    shown: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if config.augment_function and augment is None:
        absent["views"] = (
            f"Its views are made by the Python function {config.augment_function}, which a report "
            f"can call only at the end of the run."
        )
    else:
        try:
            drawn = views_of(config, train, augment)
            shown["views"], figures["views"] = {"drawn": drawn}, _views_figures(drawn)
        except InputError as error:
            absent["views"] = str(error)
    try:
        count = count_for(config, images_per_second) if pictures is None else pictures
        sample = choose(config, train, test, count)
        features = features_of(run, config, sample, warn)
    except (InputError, DivergedError) as error:
        absent |= {name: str(error) for name in LOOKED_AT if name != "views"}
        return Seen(shown, figures, absent)
    known = newest_saved(run)[1].get("images")
    note = "" if known in (None, train.identity) else OTHER_IMAGES
    _neighbours(sample, features, note, shown, figures)
    _map(config, sample, features["trained"], layout, shown, figures)
    if sample.labels is None or (sample.labels < 0).any():
        absent["confusion"] = NO_LABELS
    else:
        _confusion(confusion_of(config, sample, features["trained"]), sample, shown, figures)
    return Seen(shown, figures, absent)


def _views_figures(drawn: list[Drawn]) -> dict[str, Any]:
    return {"pictures": [one.name for one in drawn], "pairs": EPOCHS}


def _neighbours(
    sample: Sample,
    features: dict[str, np.ndarray],
    note: str,
    shown: dict[str, Any],
    figures: dict[str, Any],
) -> None:
    queries = neighbours_of(sample, features)
    share = {
        kind: None if not (known := _judged(queries, kind)) else 100 * sum(known) / len(known)
        for kind in KINDS
    }
    shown["neighbours"] = {
        "queries": queries, "kinds": KINDS, "sample": sample, "share": share, "note": note,
    }  # fmt: skip
    figures["neighbours"] = {
        "bank": sample.bank,
        "same_class": share,
        "queries": [
            {"picture": sample.names[query.place], "class": sample.class_of(query.place)}
            | {
                kind: [
                    {
                        "picture": sample.names[near.place],
                        "class": sample.class_of(near.place),
                        "similarity": round(near.similarity, 4),
                    }
                    for near in query.nearest[kind]
                ]
                for kind in KINDS
            }
            for query in queries
        ],
    }


def _judged(queries: list[Query], kind: str) -> list[bool]:
    return [n.right for query in queries for n in query.nearest[kind] if n.right is not None]


def _map(
    config: Config,
    sample: Sample,
    features: np.ndarray,
    layout: str,
    shown: dict[str, Any],
    figures: dict[str, Any],
) -> None:
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
    shown["map"] = {
        "points": points.tolist(), "groups": groups, "sheet": sheet, "columns": columns,
        "size": POINT, "width": WIDTH, "height": HEIGHT, "layout": layout,
        "sample": sample, "clusters": described,
        "script": {"columns": columns, "size": POINT, "tips": tips},
    }  # fmt: skip
    figures["map"] = {
        "layout": layout,
        "pictures": sample.names,
        "classes": [sample.class_of(place) for place in range(len(sample.names))],
        "places": np.round(places, 4).tolist(),
        "clusters": [
            {"pictures": len(one.members), "typical": [sample.names[i] for i in one.typical]}
            for one in clusters
        ],
    }


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


def _confusion(
    found: Confusion, sample: Sample, shown: dict[str, Any], figures: dict[str, Any]
) -> None:
    def name(label: int) -> str:
        names = sample.class_names
        return names[label] if label < len(names) else str(label)

    shown["confusion"] = {"found": found, "sample": sample, "name": name}
    figures["confusion"] = {
        "top1": found.top1,
        "k": found.k,
        "bank": sample.bank,
        "queries": len(sample.names) - sample.bank,
        "classes": [name(label) for label in found.labels],
        "counts": found.counts.tolist(),
        "mixed_up": [
            {
                "class": name(pair.label),
                "taken_for": name(pair.taken_for),
                "count": pair.queries,
                "share": pair.share,
                "examples": [sample.names[i] for i in pair.examples],
            }
            for pair in found.pairs
        ],
    }
