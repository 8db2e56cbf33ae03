"""`probe --quick`: a ridge classifier on features that are computed once and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.errors import InputError
from moco_tf.evaluate import baselines
from moco_tf.evaluate.features import embedding, image_features, pixel_features
from moco_tf.evaluate.features_key import features_key
from moco_tf.evaluate.kept_features import kept_features
from moco_tf.evaluate.labelled import Labelled, open_labelled
from moco_tf.evaluate.linear import backbone_digest
from moco_tf.evaluate.probe_config import ProbeConfig
from moco_tf.evaluate.probe_report import ridge_protocol
from moco_tf.evaluate.ridge import choose_and_fit, correct_share
from moco_tf.evaluate.split import Split, monitor_split
from moco_tf.files.digests import write_json
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import CONFIG
from moco_tf.runs.encoders import load_encoder, untrained_encoder
from moco_tf.training.reporting import Reporter

PIXEL_SIZE = 16  # side at which raw pixels are compared: those of 32 take minutes to fit


def ridge_probe(
    config: ProbeConfig,
    source: Any = None,
    *,
    compare: bool = True,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Returns top-1 and top-5 (percent) of a ridge classifier, and how it was made.

    Args:
        source: the images, as `open_labelled` takes them, instead of those that `config.data`
            names.
        compare: whether to compute "top1_untrained", of the same architecture with random weights
            drawn by the run's seed, and "top1_pixels", else None; they are kept in the folder.

    Raises:
        InputError: anything wrong with the run, the data or the folder.
    """
    started = time.perf_counter()
    say = (reporter or Reporter()).line
    encoder, pretraining, step = load_encoder(config.run, warn=say)
    data = open_labelled(
        config.data if source is None else source,
        pretraining,
        max_bad_images=config.max_bad_images,
        say=say,
        split=config.split,
    )
    name = config.data or pretraining.data
    split = _split(data.train, config.seed, name)
    out = config.out(quick=True)
    if (out / CONFIG).exists():
        raise InputError(f"{out} is the folder of another run. Use another --out.")
    embed = embedding(encoder, features="pooled", normalization=pretraining.normalization)
    digest, side = backbone_digest(encoder.backbone), pretraining.image_size
    key = features_key(digest, pretraining.normalization, side, data.train, data.test)
    train, test, cached = kept_features(
        out, key, lambda: _features(data, embed, side, "encoder", say), say
    )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise InputError(
            f"the features of {config.run} are not all finite: the encoder has diverged. "
            f"Use an earlier checkpoint."
        )
    fit = partial(_fit, data, split.query_indices, say)
    top1, top5, ratio, held_out_top1 = fit("encoder", train, test)

    def baseline() -> dict[str, float]:
        say(f"top-1 {top1:.2f}%; next its baselines, which are kept (--no-baselines: none)")
        return _baselines(data, pretraining, fit, say)

    others: dict[str, Any] = {"untrained": None, "pixels": None}
    if compare:
        parts = [(images, np.arange(images.count)) for images in data[:2]]
        settings = {"of": "probe --quick", "seed": config.seed, "pixels": PIXEL_SIZE}
        others = baselines.once(out, baselines.key_of(pretraining, settings, *parts), baseline, say)
    summary = {
        "top1": top1,
        "top5": top5,
        "top1_best": top1,
        "top1_untrained": others["untrained"],
        "top1_pixels": others["pixels"],
        "untrained_seed": pretraining.seed if compare else None,
        "classes": data.classes,
        "train_images": data.train.count,
        "test_images": data.test.count,
        **data.found,
        "protocol": ridge_protocol(data, name, step, ratio, len(split.query_indices)),
        "lambda": ratio,
        "held_out_top1": held_out_top1,
        "encoder_step": step,
        "encoder_sha256": digest,
        "features_cached": cached,
        "seconds": time.perf_counter() - started,
    }
    write_json(out / run_folder.SUMMARY, summary)
    return summary


def _baselines(
    data: Labelled, pretraining: Config, fit: Callable[..., tuple], say: Callable[[str], None]
) -> dict[str, float]:
    """Top-1 of the untrained encoder's features, and of raw pixels."""
    drawn = embedding(
        untrained_encoder(pretraining), features="pooled", normalization=pretraining.normalization
    )
    side, what = pretraining.image_size, "untrained encoder"
    untrained = fit(what, *_features(data, drawn, side, what, say))[0]
    return {"untrained": untrained, "pixels": fit("raw pixels", *_pixels(data, side, say))[0]}


def _split(train: Images, seed: int, name: str) -> Split:
    """A tenth of each class is held out."""
    split = monitor_split(train, None, seed=seed)
    if split is None:
        raise InputError(
            f"--quick holds out a tenth of each class; data={name} has no class of two training "
            f"images."
        )
    return split


def _features(
    data: Labelled, embed: Any, side: int, what: str, say: Callable[[str], None]
) -> list[np.ndarray]:
    """Of the training images and of the test images: float32 [M, D]."""
    seen: dict[str, Any] = {"image_size": side, "say": say, "unit": False}
    return [
        image_features(embed, data.train, what=f"{what}, training images", **seen),
        image_features(embed, data.test, what=f"{what}, test images", **seen),
    ]


def _pixels(data: Labelled, side: int, say: Callable[[str], None]) -> list[np.ndarray]:
    """The plain pixels, at most 16 a side: float32 [M, D]."""
    small, mean, found = min(side, PIXEL_SIZE), None, []
    for images in data[:2]:
        indices = np.arange(images.count)
        rows, mean = pixel_features(images, indices, small, mean=mean, unit=False, say=say)
        found.append(rows)
    return found


def _fit(
    data: Labelled,
    held: np.ndarray,
    say: Callable[[str], None],
    what: str,
    train: np.ndarray,
    test: np.ndarray,
) -> tuple[float, float, float, float]:
    """Returns top-1 and top-5 on the test images, lambda, and top-1 on the held-out ones."""
    say(f"{what}: fitting classifiers to {train.shape[0]} x {train.shape[1]} features")
    labels, test_labels = (np.asarray(part.labels) for part in data[:2])
    kernel, bias, ratio, held_top1 = choose_and_fit(train, labels, data.classes, held=held)
    top1, top5 = (
        correct_share(test, test_labels, kernel, bias, k) for k in (1, min(5, data.classes))
    )
    return top1, top5, ratio, held_top1
