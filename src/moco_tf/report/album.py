"""What TensorBoard shows of a run as it trains: the views, and what is alike at each evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.errors import line_of
from moco_tf.evaluate.features import embedding, extract
from moco_tf.models import Encoder
from moco_tf.report.alike import neighbours_of
from moco_tf.report.sample import choose
from moco_tf.report.views import Drawn, views_of

PICTURES = 256  # that are looked at
SIDE, GAP = 64, 6  # pixels: of a picture in a sheet, and beside the first one of a row

Monitor = Callable[[], dict[str, float]]
Show = Callable[[dict[str, np.ndarray]], None]


class Album:
    """Sheets of pictures, uint8 [h, w, 3].

    Args:
        train, test: the run's images.
        encoder: the query encoder, as it is when a sheet is made.
        augment: the function that makes the views, if one does.
    """

    def __init__(
        self,
        config: Config,
        train: Images,
        test: Images | None,
        encoder: Encoder,
        augment: Callable | None,
    ):
        self.train, self.test = train, test
        self._config, self._augment = config, augment
        self._embed = embedding(
            encoder, features=config.knn_features, normalization=config.normalization
        )

    @cached_property
    def drawn(self) -> list[Drawn]:
        """Pictures with the views that the run draws of them, for the report as well."""
        return views_of(self._config, self.train, self._augment)

    def views(self) -> np.ndarray:
        """Each picture beside the views that the run draws of it, as in a report."""
        rows = [[one.picture, *(v for pair in one.pairs for v in pair)] for one in self.drawn]
        return sheet(rows)

    def neighbours(self) -> np.ndarray:
        """Each query beside its nearest pictures, as in a report, but among fewer."""
        crops = self._sample.crops
        trained = extract(self._embed, self._sample.batches())
        found = neighbours_of(self._sample, {"trained": trained})
        places = [[q.place, *(near.place for near in q.nearest["trained"])] for q in found]
        return sheet([[crops[place] for place in row] for row in places])

    @cached_property
    def _sample(self) -> Any:
        return choose(self._config, self.train, self.test, PICTURES)


def sheet(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Returns the pictures, uint8 [h, w, 3] each, as squares in white rows, the first one apart."""
    width = max(len(row) for row in rows) * SIDE + GAP
    pixels = np.full((len(rows) * SIDE, width, 3), 255, np.uint8)
    for top, row in enumerate(rows):
        for place, picture in enumerate(row):
            left = place * SIDE + (GAP if place else 0)
            square = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels[top * SIDE : (top + 1) * SIDE, left : left + SIDE] = np.asarray(square)
    return pixels


def with_pictures(
    monitor: Monitor, album: Album, first: bool, show: Show, say: Callable
) -> Monitor:
    """Returns the monitor; with it `show` gets the neighbours, and at first the views, too.

    Args:
        first: whether the run begins, so that the views are shown once.
        say: called with one line on what failed; then no more pictures are shown.
    """
    sheets = {"neighbours": album.neighbours} | ({"views": album.views} if first else {})

    def monitored() -> dict[str, float]:
        values = monitor()
        try:
            show({name: make() for name, make in sheets.items()})
            sheets.pop("views", None)
        except Exception as error:  # no picture is worth a run
            sheets.clear()
            say(f"TensorBoard gets no pictures ({line_of(error)})")
        return values

    return monitored
