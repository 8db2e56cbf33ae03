"""The sections with pictures: what the network sees, finds alike, and mixes up, and a map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.errors import DivergedError, InputError
from moco_tf.report.alike import Query, confusion_of, neighbours_of
from moco_tf.report.picture_map import map_of
from moco_tf.report.sample import Sample, choose, count_for, features_of
from moco_tf.report.views import EPOCHS, Drawn, views_of
from moco_tf.report.write import LOOKED_AT, Seen
from moco_tf.runs.overview import newest_saved

KINDS = {"trained": "trained", "untrained": "untrained", "pixels": "raw pixels"}
OTHER_IMAGES = "The pictures are not those that the run was trained on."
NO_LABELS = "The pictures have no labels, so there are no classes to mix up."

Section = tuple[dict[str, Any], dict[str, Any]]  # what its template shows, and its figures


def look(
    run: Path,
    config: Config,
    train: Images,
    test: Images | None,
    *,
    pictures: int | None,
    images_per_second: float | None,
    layout: str = "pca",
    draw: Callable[[], list[Drawn]] | None = None,
    warn: Callable[[str], None],
) -> Seen:
    """Returns the sections with pictures of the run's newest checkpoint; changes nothing.

    Args:
        pictures: how many are embedded; none: as many as take some seconds.
        images_per_second: of the training, where it is known.
        layout: see `laid_out`.
        draw: gives the views of the run; none: they are drawn here.
        warn: called with a line on a damaged checkpoint.
    """
    sections: dict[str, Section] = {}
    absent: dict[str, str] = {}
    if config.augment_function and draw is None:
        absent["views"] = (
            f"Its views are made by the Python function {config.augment_function}, which a report "
            f"can call only at the end of the run."
        )
    else:
        try:
            drawn = draw() if draw else views_of(config, train)
            names = [one.name for one in drawn]
            sections["views"] = {"drawn": drawn}, {"pictures": names, "pairs": EPOCHS}
        except InputError as error:
            absent["views"] = str(error)
    try:
        count = count_for(config, images_per_second) if pictures is None else pictures
        sample = choose(config, train, test, count)
        features = features_of(run, config, sample, warn)
    except (InputError, DivergedError) as error:
        absent |= {name: str(error) for name in LOOKED_AT if name != "views"}
    else:
        known = newest_saved(run)[1].get("images")
        note = "" if known in (None, train.identity) else OTHER_IMAGES
        sections["neighbours"] = _neighbours(sample, features, note)
        sections["map"] = map_of(config, sample, features["trained"], layout)
        if sample.labels is None or (sample.labels < 0).any():
            absent["confusion"] = NO_LABELS
        else:
            sections["confusion"] = _confusion(config, sample, features["trained"])
    shown, figures = ({name: one[n] for name, one in sections.items()} for n in (0, 1))
    return Seen(shown, figures, absent)


def _neighbours(sample: Sample, features: dict[str, np.ndarray], note: str) -> Section:
    queries = neighbours_of(sample, features)
    share = {
        kind: None if not (known := _judged(queries, kind)) else 100 * sum(known) / len(known)
        for kind in KINDS
    }
    shown = {"queries": queries, "kinds": KINDS, "sample": sample, "share": share, "note": note}
    figures = {
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
    return shown, figures


def _judged(queries: list[Query], kind: str) -> list[bool]:
    return [n.right for query in queries for n in query.nearest[kind] if n.right is not None]


def _confusion(config: Config, sample: Sample, features: np.ndarray) -> Section:
    found = confusion_of(config, sample, features)

    def name(label: int) -> str:
        names = sample.class_names
        return names[label] if label < len(names) else str(label)

    shown = {"found": found, "sample": sample, "name": name}
    figures = {
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
    return shown, figures
