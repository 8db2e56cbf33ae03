"""The pictures that an encoder finds most alike: `Run.neighbours` and `moco-tf neighbours`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moco_tf.api import starting
from moco_tf.errors import InputError
from moco_tf.names.data import text_or_object

if TYPE_CHECKING:
    from moco_tf.training.reporting import Reporter

DUPLICATES = 0.99  # similarity from which on two images are told as near-duplicates


def neighbours(
    run: str,
    queries: Sequence[Any] = (),
    *,
    data: Any = None,
    k: int = 10,
    features: Literal["pooled", "projection"] = "pooled",
    duplicates: float | None = None,
    max_bad_images: float | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Returns the images of a data set that are most similar to given ones, or to one another.

    The similarity is the cosine of the features. Those of the data are kept in the run's folder,
    and computed again where the encoder or the images have changed. The search is exact.

    Args:
        run: a run folder (its newest checkpoint), or a file made by `moco-tf convert`.
        queries: pictures: paths, names of images in the data, or arrays uint8 [h, w, 3].
        data: images to search, as `pretrain` takes them. None: the run's own.
        k: neighbours of each query. A query that is in the data is not its own neighbour.
        features: "pooled" (before the head) or "projection" (the head's output).
        duplicates: also return the pairs of images that are at least so similar.
        max_bad_images: largest share of unreadable files to skip. None: the run's own.
        out: an .html file to write with all the pictures.
        overwrite: replace `out` if it exists.
        reporter: see `pretrain`.

    Returns:
        "queries": for each {"query", "image", "class", "neighbours": [{"image", "file", "split",
        "class", "similarity", "row"}, ...]}; "duplicates": [{"similarity", "first", "second"},
        ...], "duplicate_pairs" and others, as `moco-tf neighbours --json` prints.

    Raises:
        InputError: anything wrong with the run, the queries, the data or the file.
    """
    if not len(queries) and duplicates is None:
        raise InputError("no query was given. Give pictures, or --duplicates.")
    if k < 1:
        raise InputError(f"k must be at least 1; received k={k}.")
    if duplicates is not None and not -1 <= duplicates <= 1:
        raise InputError(f"--duplicates must be a similarity, -1 to 1; received {duplicates:g}.")
    target = None if out is None else Path(os.path.expanduser(out))
    if target is not None:
        starting.check_page(target, overwrite)
    text, source = text_or_object(data)
    images = source if text is None else text
    starting.check_images(run, images)
    from moco_tf.look.found_page import look_for

    return look_for(
        run,
        queries,
        data=images,
        k=k,
        features=features,
        above=duplicates,
        max_bad_images=max_bad_images,
        out=target,
        reporter=reporter,
        start=starting.start_tensorflow,
    )
