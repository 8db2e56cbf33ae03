"""The network of a fine-tuning at its first step, with the optimizer that trains it."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import tensorflow as tf

from moco_tf.data.pipeline import normalize
from moco_tf.evaluate.classifier import initial_kernel
from moco_tf.evaluate.end_to_end import Finetuner
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.models.recompute import recomputing
from moco_tf.runs.encoders import assign, untrained_encoder
from moco_tf.runs.snapshot import EncoderCheckpoint
from moco_tf.training.adamw import adamw
from moco_tf.training.network import Network
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.sgd import sgd_update
from moco_tf.training.step import StepEnvelope


def build_network(
    config: FinetuneConfig,
    snapshot: EncoderCheckpoint,
    classes: int,
    strategy: tf.distribute.Strategy,
) -> Finetuner:
    """Returns the network at its first step: the backbone of `snapshot`, or a random one.

    The classifier starts as the linear probe's does, weights N(0, 0.01) and bias 0.
    """
    pretraining = snapshot.config
    dropping: dict[str, Any] = {"drop_path": config.drop_path, "batch_size": config.batch_size}
    compute_dtype = "bfloat16" if config.precision == "mixed_bfloat16" else "float32"
    with strategy.scope():
        encoder = untrained_encoder(
            pretraining,
            head="linear",
            dim=classes,
            group_size=config.group_size,
            group_layout="contiguous",
            running_statistics="mean",
            dtype=config.precision,
            seed=config.seed,
            **(dropping if config.drop_path else {}),
        )
    if not config.from_scratch:
        assign(encoder.backbone, snapshot.state, config.run)
    kernel, bias = encoder.model.layers[-1].variables
    kernel.assign(initial_kernel(kernel.shape[0], classes, config.seed))
    bias.assign(tf.zeros_like(bias))
    cuts = encoder.light_cuts if pretraining.is_vit else ()  # one view: a ResNet keeps everything
    trained = Network(encoder, recomputing(encoder.model, cuts))
    envelope = StepEnvelope(
        trained,
        strategy=strategy,
        batch_size=config.batch_size,
        group_size=config.group_size,
        group_layout="contiguous",
        rule=_rule(config),
        running_statistics="mean",
        compile_parts=False,
        preprocess=lambda images: normalize(images, pretraining.normalization, compute_dtype),
    )
    return Finetuner(
        envelope,
        smoothing=config.label_smoothing if config.mixes else None,
        scales=layer_scales(trained.names, config.layer_decay),
    )


def _rule(config: FinetuneConfig) -> UpdateRule:
    if config.optimizer == "adamw":
        return adamw(weight_decay=config.weight_decay, matrices_only=True)
    return UpdateRule(
        partial(sgd_update, momentum=config.momentum, weight_decay=config.weight_decay)
    )


def layer_scales(names: list[str], decay: float) -> list[float] | None:
    """Returns the factor of the rate of each parameter; none where all are 1.

    The classifier and a norm before it have 1, the last block or stage `decay`, the one before it
    `decay` squared, and so on down to the stem.

    Args:
        names: of the parameters of a ViT or a ResNet.

    Source: arXiv:2106.08254, section 3.2, as arXiv:2111.06377 fine-tunes.
    """
    if decay == 1:
        return None
    levels = [_level(name) for name in names]
    last = max(level for level in levels if level is not None)
    return [1.0 if level is None else decay ** (last + 1 - level) for level in levels]


def _level(name: str) -> int | None:
    """0 of the stem, then 1, 2, ... of each block or stage; none after them."""
    block = re.match(r"(blocks\.|layer)(\d+)\.", name)
    if block:
        return int(block[2]) + (block[1] == "blocks.")
    return 0 if re.match(r"patch_embed|tokens|conv1|bn1", name) else None
