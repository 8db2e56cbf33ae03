"""What `moco-tf neighbours` finds: as one result, and as a page of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moco_tf.evaluate.approximate import CANDIDATES, MANY, has_index
from moco_tf.look.bank import Bank
from moco_tf.look.neighbours import Query, find_duplicates, find_neighbours, read_queries
from moco_tf.look.opening import open_bank
from moco_tf.report import page
from moco_tf.training.reporting import Reporter

if TYPE_CHECKING:
    from moco_tf.evaluate.features import Features

MOST_SHOWN = 200  # pairs on a page


def look_for(
    run: str,
    queries: Sequence[Any],
    *,
    data: Any,
    k: int,
    features: Features,
    above: float | None,
    max_bad_images: float | None,
    out: Path | None,
    reporter: Reporter | None,
    start: Callable[[], None],
) -> dict[str, Any]:
    """See `moco_tf.api.neighbours.neighbours`, which checks the arguments first.

    Args:
        start: imports TensorFlow; called where it is needed.
    """
    say = (reporter or Reporter()).line
    bank = open_bank(run, data, features, max_bad_images, say, start)
    pictures = read_queries(bank, queries)
    found = find_neighbours(bank, pictures, k) if pictures else []
    many = above is not None and len(bank.rows.names) >= MANY
    if many and not has_index():
        say(f"{MANY} images or more are searched faster after: pip install 'moco-tf[index]'")
    indexed = many and has_index()
    pairs, count = ([], None) if above is None else find_duplicates(bank, above, indexed)
    result = {
        "run": run,
        "step": bank.step,
        "data": bank.data,
        "images": len(bank.rows.names),
        "features": features,
        "features_kept": bank.kept,
        "k": k,
        "queries": found,
        "above": above,
        "duplicate_pairs": count,
        "duplicates": pairs,
        "protocol": _protocol(bank, features, indexed),
        "out": None if out is None else str(out),
    }
    if out is not None:
        page.write(out, _page(bank, pictures, result))
    return result


def _protocol(bank: Bank, features: Features, indexed: bool) -> str:
    searched = "every one of them was compared"
    if indexed:
        searched += f" with the queries, and for pairs with {CANDIDATES - 1} that an index found"
    return (
        f"Cosine similarities of the {features} features ({bank.features.shape[1]} numbers) of the "
        f"query encoder at step {bank.step}, in inference mode and without augmentation, of "
        f"{len(bank.rows.names)} images; {searched}."
    )


def _page(bank: Bank, pictures: Sequence[Query], result: dict[str, Any]) -> bytes:
    shown = []
    for query, found in zip(pictures, result["queries"], strict=True):
        own = found["class"]
        cells = [_cell(bank, one, own, one["similarity"]) for one in found["neighbours"]]
        pixels = query.pixels if query.row is None else bank.pixels(query.row)
        first = {"pixels": pixels, "name": query.name, "class": own or ""}
        first |= {"mark": "", "similarity": None}
        shown.append({"query": first, "neighbours": cells})
    pairs = [
        [_cell(bank, pair[name], pair["first"]["class"], None) for name in ("first", "second")]
        for pair in result["duplicates"][:MOST_SHOWN]
    ]
    return page.render(
        "found.html",
        title="What it finds alike",
        subtitle=f"{result['run']} on {result['data']}",
        queries=shown,
        pairs=list(zip([p["similarity"] for p in result["duplicates"]], pairs, strict=False)),
        **{name: result[name] for name in ("protocol", "above", "duplicate_pairs", "features")},
    )


def _cell(
    bank: Bank, one: dict[str, Any], query_class: str | None, similarity: float | None
) -> dict[str, Any]:
    """A picture with what is told of it; marked where both classes are known."""
    known = query_class is not None and one["class"] is not None
    mark = ("right" if one["class"] == query_class else "wrong") if known else ""
    pixels: np.ndarray = bank.pixels(one["row"])
    return {
        "pixels": pixels,
        "name": one["image"],
        "class": one["class"] or "",
        "mark": mark,
        "similarity": similarity,
    }
