"""kNN accuracy of a run or a converted file, beside its baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from moco_tf.config import Config
from moco_tf.data.found import found_lines, skipped_lines
from moco_tf.data.sources import Images, open_images
from moco_tf.errors import InputError
from moco_tf.evaluate import baselines
from moco_tf.evaluate.features import Features, embedding
from moco_tf.evaluate.knn import check_votes, knn_top1_features, knn_top1_pixels
from moco_tf.evaluate.labelled import found_in
from moco_tf.evaluate.split import Split, monitor_split
from moco_tf.names.data import text_of
from moco_tf.runs.encoders import load_encoder, untrained_encoder
from moco_tf.runs.snapshot import folder_of, images_of
from moco_tf.training.reporting import to_stderr


def evaluate_run(
    run: str,
    *,
    features: Features,
    k: int,
    temperature: float,
    data: Any = None,
    split: Literal["val", "test"] | None = None,
    compare: bool = True,
    max_bad_images: float | None = None,
    warn: Callable[[str], None] = to_stderr,
) -> dict[str, Any]:
    """Returns kNN top-1 (percent) of a run or a converted file, and its conditions.

    Beside it stand those of an encoder of the same architecture with random weights, drawn by the
    run's seed, and of the plain pixels: computed once, and kept in a run folder.

    Args:
        run: run folder (its last checkpoint counts) or file made by `convert`.
        data: what `open_images` takes; none: the run's own data.
        split: see `open_images`.
        k: neighbours asked for; the result holds how many voted.
        compare: whether to compute "knn_top1_untrained" and "knn_top1_pixels", else None.
        max_bad_images: largest share of unreadable files to leave out; none: the run's own.
        warn: called with lines for the user: what is odd, and how far it is.

    Raises:
        InputError: for a folder without a run or checkpoint, or data without labels.
    """
    check_votes(k, temperature)
    encoder, config, step = load_encoder(run, warn=warn)
    data = images_of(config, data, run)
    if max_bad_images is not None:
        config = config.model_copy(update={"max_bad_images": max_bad_images})
    train, test, chosen = _labelled_images(config, data, split, warn)
    embed = embedding(encoder, features=features, normalization=config.normalization)
    votes: dict[str, Any] = {"image_size": config.image_size, "k": k, "temperature": temperature}
    top1 = knn_top1_features(chosen, embed, say=warn, **votes)

    def baseline() -> dict[str, float]:
        warn(f"kNN top-1 {top1:.2f}%; next its baselines (--no-baselines: none)")
        drawn = embedding(
            untrained_encoder(config), features=features, normalization=config.normalization
        )
        untrained = knn_top1_features(chosen, drawn, say=warn, what="untrained encoder", **votes)
        return {"untrained": untrained, "pixels": knn_top1_pixels(chosen, say=warn, **votes)}

    for line in skipped_lines(train, test):
        warn(line)
    beside: dict[str, Any] = {"untrained": None, "pixels": None}
    if compare:
        settings = {"of": "knn", "features": features, **votes}
        key = baselines.key_of(config, settings, chosen[:2], chosen[2:])
        beside = baselines.once(folder_of(run), key, baseline, warn)
    bank_images, query_images = len(chosen.bank_labels), len(chosen.query_labels)
    used_k = min(k, bank_images)
    origin = "test images" if chosen.queries is not chosen.bank else "held-out training images"
    return {
        "knn_top1": top1,
        "knn_top1_untrained": beside["untrained"],
        "knn_top1_pixels": beside["pixels"],
        "untrained_seed": config.seed if compare else None,
        "k": used_k,
        "temperature": temperature,
        "features": features,
        "bank_images": bank_images,
        "query_images": query_images,
        "classes": chosen.classes,
        **found_in(train, test),
        "step": step,
        "protocol": (
            f"Each of the {query_images} {origin} of {text_of(data)} takes the class with most "
            f"votes of its {used_k} nearest (cosine) among {bank_images} training images, weight "
            f"exp(similarity / {temperature:g}), on the L2-normalised {features} features of the "
            f"query encoder at step {step}, in inference mode and without augmentation."
        ),
    }


def _labelled_images(
    config: Config,
    data: Any,
    split: Literal["val", "test"] | None,
    warn: Callable[[str], None],
) -> tuple[Images, Images | None, Split]:
    """Training images, test images if there are any, and which of them search and classify."""
    name = text_of(data)
    train, test = open_images(
        data,
        max_bad_images=config.max_bad_images,
        seed=config.seed,
        image_size=config.image_size,
        look="later",
        split=split,
    )
    if train.labels is None:
        why = f" ({train.why_unlabelled})" if train.why_unlabelled else ""
        raise InputError(
            f"kNN needs labels; data={name} has none{why}. Use images in class folders."
        )
    if test is not None and test.why_unlabelled:
        raise InputError(f"data={name}: {test.why_unlabelled}. Both need the same class folders.")
    for line in found_lines(train, test):
        warn(line)
    chosen = monitor_split(train, test, seed=config.seed)  # as the training monitor
    if chosen is None:
        raise InputError(
            f"kNN needs queries; data={name} has no test images and no class of two images."
        )
    return train, test, chosen
