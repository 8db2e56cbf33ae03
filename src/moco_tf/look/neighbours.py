"""The pictures of a data set that an encoder finds most like given ones, or like one another.

Imports no TensorFlow: that is needed only for a query that is not in the data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moco_tf.errors import InputError
from moco_tf.evaluate.approximate import approximate_pairs
from moco_tf.evaluate.nearest import nearest, similar_pairs
from moco_tf.exporting.rows import one_line
from moco_tf.look.bank import Bank

MOST_PAIRS = 1000


@dataclass(frozen=True)
class Query:
    """A picture whose neighbours are wanted."""

    name: str
    row: int | None  # in the data; None: it is not among them
    pixels: np.ndarray | None  # uint8 [h, w, 3] of one that is not in the data


def read_queries(bank: Bank, queries: Sequence[Any]) -> list[Query]:
    """Returns pictures by their paths, by their names in the data, or given as arrays.

    Raises:
        InputError: for one that is no picture.
    """
    places = {name: row for row, name in enumerate(bank.rows.names)}
    return [_read_query(bank, query, places) for query in queries]


def _read_query(bank: Bank, query: Any, places: dict[str, int]) -> Query:
    if isinstance(query, np.ndarray):
        if query.dtype != np.uint8 or query.ndim != 3 or query.shape[2] != 3 or not query.size:
            raise InputError(
                f"a query must be a path, a name in the data, or uint8 [h, w, 3]; received "
                f"{query.dtype} {list(query.shape)}."
            )
        return Query("array", None, query)
    path = os.fspath(query)
    name = one_line(path)
    row = places.get(name)
    if not os.path.lexists(path):
        if row is None:
            raise InputError(
                f"query {name} is neither a file nor the name of an image in data="
                f"{one_line(bank.data)}. Give a path, or a name such as {bank.rows.names[0]}."
            )
        return Query(name, row, None)
    unlike = f"query {name} is not a picture that can be read"
    if os.path.isdir(path):
        raise InputError(f"{unlike}: it is a folder. Give pictures, as with its name and /*.")
    if not os.path.isfile(path):
        raise InputError(f"{unlike}: it is a pipe or the like, or a link to nothing.")
    row = _row_of_file(bank, path)
    if row is not None:
        return Query(name, row, None)
    embedder = bank.embedder
    try:
        return Query(name, None, embedder.read(path))
    except OSError as error:
        raise InputError(f"query {name} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"{unlike}: {error}.") from None


def _row_of_file(bank: Bank, path: str) -> int | None:
    """The image of the data that is this very file."""
    own = os.path.basename(path)  # of the data's file it may be shown otherwise
    end = one_line(own)
    rows = (row for row, name in enumerate(bank.rows.names) if name.rpartition("/")[2] == end)
    for row in rows:
        file = os.path.join(os.path.dirname(bank.file(row) or ""), own)
        if bank.file(row) and os.path.exists(file) and os.path.samefile(file, path):
            return row
    return None


def find_neighbours(bank: Bank, queries: Sequence[Query], k: int) -> list[dict[str, Any]]:
    """Returns for each query its `k` most similar images; one that is in the data is not its own.

    Each is {"query": name, "image": its name in the data or None, "class", "neighbours": [{"image",
    "file", "split", "class", "similarity", "row"}, ...]}, the most similar first.
    """
    outside = [query.pixels for query in queries if query.pixels is not None]
    made = iter(bank.embedder.features(outside) if outside else ())
    rows = [next(made) if query.row is None else bank.features[query.row] for query in queries]
    places, values = nearest(bank.features, np.stack(rows), k + 1)
    found = []
    for query, own_places, own_values in zip(
        queries, places.tolist(), values.tolist(), strict=True
    ):
        pairs = [
            bank.about(place) | {"similarity": value, "row": place}
            for place, value in zip(own_places, own_values, strict=True)
            if place != query.row
        ]
        about = None if query.row is None else bank.about(query.row)
        found.append(
            {
                "query": query.name,
                "image": about and about["image"],
                "class": about and about["class"],
                "neighbours": pairs[:k],
            }
        )
    return found


def find_duplicates(bank: Bank, above: float, indexed: bool) -> tuple[list[dict[str, Any]], int]:
    """Returns the pairs of images that are at least so similar, and how many there are.

    Each is {"similarity", "first": {"image", "file", "split", "class", "row"}, "second": ...}; the
    most similar first, and no more than `MOST_PAIRS`.

    Args:
        indexed: look for them by `approximate_pairs`.
    """
    search = approximate_pairs if indexed else similar_pairs
    pairs, values, count = search(bank.features, above, MOST_PAIRS)
    found = [
        {
            "similarity": value,
            "first": bank.about(one) | {"row": one},
            "second": bank.about(other) | {"row": other},
        }
        for (one, other), value in zip(pairs.tolist(), values.tolist(), strict=True)
    ]
    return found, count
