"""MoCo v3 stepped on recorded inputs, by the official code's names and PyTorch's layouts."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, model_validator

from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.models.heads import with_heads
from moco_tf.models.recompute import recomputing
from moco_tf.models.resnet import resnet
from moco_tf.models.torch_names import from_torch, to_torch, torch_name
from moco_tf.models.vit import vit
from moco_tf.names.encoder import ALL, check_vit
from moco_tf.training.adamw import adamw
from moco_tf.training.lars import lars
from moco_tf.training.network import Network
from moco_tf.training.schedules import cosine_momentum, learning_rate
from moco_tf.training.step import StepEnvelope
from moco_tf.verify.limits import Count, NonNegative, Positive, Share, check_size

SLOTS = {"lars": {"momentum": "mu"}, "adamw": {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}}
NORMS = {"group_layout": "contiguous", "running_statistics": "first_group"}


class V3Settings(BaseModel):
    """Settings of a run of the official MoCo v3 on one process, by the names of the recording."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    kind: Literal["resnet", "vit"]
    block: Literal["basic", "bottleneck"] = "bottleneck"  # of a ResNet, as `layers`
    layers: tuple[Count, ...] = Field((), max_length=8)
    width: Count
    depth: Count = 1  # these five of a ViT
    heads: Count = 1
    stem: Literal["patch", "conv"] = "patch"
    patch: Count = 16
    stop_grad_conv1: bool = False
    size: Count
    batch: int = Field(ge=2)
    dim: Count
    mlp_dim: Count
    T: Positive
    m: Share
    m_cos: bool
    opt: Literal["lars", "adamw"]
    opt_momentum: Share = 0.9
    wd: NonNegative
    lr: NonNegative
    ipe: Count  # iterations of an epoch
    epochs: Count
    warmup: int = Field(ge=0)
    steps: Count

    @model_validator(mode="after")
    def _check(self):
        """Refuses sizes that do not fit, and those with which a small file asks for all memory."""
        blocks = self.layers if self.kind == "resnet" else (self.depth,)
        if not blocks:
            raise ValueError("layers must be given of a ResNet")
        check_size(blocks, max(self.width, self.mlp_dim // 8), self.batch, self.size)
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup={self.warmup} must be less than epochs={self.epochs}")
        if self.kind == "vit":
            patch = 16 if self.stem == "conv" else self.patch
            sizes = {"image_size": self.size, "patch_size": patch}
            check_vit(width=self.width, heads=self.heads, **sizes)
        return self

    def scheduled(self, step: int) -> tuple[float, float]:
        """Learning rate and momentum of a step, 0, 1, ..."""
        length = {"steps_per_epoch": self.ipe, "epochs": self.epochs}
        rate = learning_rate(step, base=self.lr, unit="step", warmup_epochs=self.warmup, **length)
        return rate, cosine_momentum(step, base=self.m, **length) if self.m_cos else self.m


class V3Replay:
    """A `MoCoV3` of the settings of a recording."""

    def __init__(self, settings: V3Settings, strategy, dtype: str):
        self.settings, self.dtype = settings, dtype
        self.method = _build(settings, strategy, dtype)
        self.variables = _torch_names(self.method)
        by_id = {id(variable): name for name, variable in self.variables.items()}
        self.parameter_names = [by_id[id(v)] for v in self.method.query.parameters]
        self.shapes = {
            name: to_torch(np.empty(v.shape, np.bool_)).shape for name, v in self.variables.items()
        }
        self._step = tf.function(partial(self.method.train_step, details=True), autograph=False)

    def load(self, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
        """Takes the state recorded under `prefix`."""
        for name, variable in self.variables.items():
            variable.assign(from_torch(arrays[prefix + name]))

    def load_slots(self, arrays: Mapping[str, np.ndarray], prefix: str, steps: int) -> None:
        """Takes what the optimizer kept after so many steps."""
        self.method.envelope.optimizer.steps.assign(steps)
        for name, slot, variable in self.slots():
            variable.assign(from_torch(arrays[f"{prefix}{name}/{slot}"]))

    def slots(self):
        """(parameter, recorded name of the slot, variable) of all that the optimizer keeps."""
        slots = self.method.envelope.optimizer.slots
        for ours, recorded in SLOTS[self.settings.opt].items():
            for name, variable in zip(self.parameter_names, slots[ours], strict=True):
                yield name, recorded, variable

    def run(self, pixels1, pixels2, step: int) -> dict[str, Any]:
        """Details of step 0, 1, ... on views uint8 [B, 3, H, W]; the state moves on."""
        rate, momentum = self.settings.scheduled(step)
        views = [
            tf.constant(((p.astype(np.float32) - 128) / 64).transpose(0, 2, 3, 1), self.dtype)
            for p in (pixels1, pixels2)
        ]
        rates = tf.constant(rate, self.dtype), tf.constant(momentum, "float64")
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), self._step(*views, *rates)[1])


def encoder_of(s: V3Settings, group_size, dtype: str):
    """The encoder of the settings, without heads."""
    shared = {"image_size": s.size, "group_size": group_size, "dtype": dtype, "seed": 0} | NORMS
    if s.kind == "vit":
        sizes = {"width": s.width, "depth": s.depth, "heads": s.heads, "stem": s.stem}
        frozen = {"patch_size": s.patch, "freeze_patch_projection": s.stop_grad_conv1}
        return vit(**sizes, **frozen, **shared)
    head = {"stem": "imagenet", "head": "none", "dim": 0}
    return resnet(block=s.block, blocks=s.layers, width=s.width, **head, **shared)


def _build(s: V3Settings, strategy, dtype: str) -> MoCoV3:
    groups: dict[str, Any] = {"group_size": ALL, **NORMS}
    heads: dict[str, Any] = {
        "dim": s.dim,
        "hidden": s.mlp_dim,
        "groups": groups,
        "dtype": dtype,
        "seed": 0,
    }
    with strategy.scope():
        query, key = (
            with_heads(encoder_of(s, ALL, dtype), s.kind, predictor=predictor, **heads)
            for predictor in (True, False)
        )
    if s.opt == "lars":
        rule = lars(momentum=s.opt_momentum, weight_decay=s.wd)
    else:
        rule = adamw(weight_decay=s.wd)
    step = {"strategy": strategy, "batch_size": s.batch, "rule": rule, "dtype": dtype}
    envelope = StepEnvelope(
        Network(query, recomputing(query.model, query.light_cuts)), **groups | step
    )
    return MoCoV3(Network(key), envelope=envelope, temperature=s.T)


def _torch_names(method: MoCoV3) -> dict[str, Any]:
    """Variables by their names in the official code."""
    names = {}
    for prefix, network in (("base_encoder.", method.query), ("momentum_encoder.", method.key)):
        for path, variable in network.variables.items():
            own = "" if path.startswith("predictor.") else prefix
            names[own + torch_name(path)] = variable
    return names
