"""Recorded steps of MoCo v3 and ours beside them, by PyTorch's names and layouts."""

import json
from functools import partial

import numpy as np
import tensorflow as tf

from moco_tf.distribute.strategy import make_strategy
from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.models.heads import with_predictor, with_projector
from moco_tf.models.resnet import resnet
from moco_tf.models.torch_names import from_torch, to_torch, torch_name
from moco_tf.models.vit import vit
from moco_tf.training.adamw import adamw
from moco_tf.training.lars import lars
from moco_tf.training.network import Network
from moco_tf.training.schedules import cosine_momentum, learning_rate
from moco_tf.training.step import StepEnvelope

SLOTS = {"lars": {"momentum": "mu"}, "adamw": {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}}


def encoder_of(config, group_size, dtype, seed=0):
    """The encoder of the settings of a trace, without heads."""
    norms = {"group_layout": "contiguous", "running_statistics": "first_group"}
    if config["kind"] == "vit":
        return vit(
            width=config["width"], depth=config["depth"], heads=config["heads"],
            stem=config["stem"], image_size=config["size"], patch_size=config.get("patch", 16),
            freeze_patch_projection=config["stop_grad_conv1"], group_size=group_size, dtype=dtype,
            seed=seed, **norms,
        )  # fmt: skip
    return resnet(
        block=config["block"], blocks=config["layers"], width=config["width"], stem="imagenet",
        image_size=config["size"], head="none", dim=0, group_size=group_size, dtype=dtype,
        seed=seed, **norms,
    )  # fmt: skip


def build(config, *, devices, dtype, **changes):
    """An untrained `MoCoV3` of the settings of a trace."""
    strategy, kind, group_size = make_strategy(devices), config["kind"], "all"
    norm = partial(GroupBatchNorm, group_size=group_size, dtype=dtype)
    head = {"hidden": config["mlp_dim"], "norm": norm, "dtype": dtype, "seed": 0}
    with strategy.scope():
        query, key = (
            with_projector(encoder_of(config, group_size, dtype), kind, dim=config["dim"], **head)
            for _ in range(2)
        )
        query = with_predictor(query, kind, **head)
    rules = {
        "lars": lambda: lars(momentum=config["opt_momentum"], weight_decay=config["wd"]),
        "adamw": lambda: adamw(weight_decay=config["wd"]),
    }
    step = {
        "strategy": strategy, "batch_size": config["batch"], "group_size": group_size,
        "group_layout": "contiguous", "rule": rules[config["opt"]](), "dtype": dtype,
        "running_statistics": "first_group",
    }  # fmt: skip
    envelope = StepEnvelope(Network(query), **step | changes)
    return MoCoV3(Network(key), envelope=envelope, temperature=config["T"])


def torch_names(method):
    """Variables by their names in the official code."""
    names = {}
    for prefix, network in (("base_encoder.", method.query), ("momentum_encoder.", method.key)):
        for path, variable in network.variables.items():
            own = "" if path.startswith("predictor.") else prefix
            layer, leaf = path.rsplit("/", 1)
            names[own + (leaf if layer == "tokens" else torch_name(path))] = variable
    return names


def schedules(config, step):
    """(learning rate, momentum) of a step, 0-based."""
    length = {"steps_per_epoch": config["ipe"], "epochs": config["epochs"]}
    rate = learning_rate(
        step, base=config["lr"], schedule="cosine", milestones=(), drop=0.1, unit="step",
        first_epoch=0, warmup_epochs=config["warmup"], **length,
    )  # fmt: skip
    momentum = config["m"]
    return rate, cosine_momentum(step, base=momentum, **length) if config["m_cos"] else momentum


class Replay:
    """A method stepped on the recorded images of a trace."""

    def __init__(self, trace, *, devices=1, dtype="float64", **changes):
        self.trace, self.dtype = trace, dtype
        self.config = json.loads(str(trace["meta_json"]))["config"]
        self.method = build(self.config, devices=devices, dtype=dtype, **changes)
        self.variables = torch_names(self.method)
        self.step = tf.function(partial(self.method.train_step, details=True))

    def load(self, prefix):
        """Takes the state recorded under `prefix`; all of it, and nothing more is recorded."""
        recorded = {n.removeprefix(prefix) for n in self.trace.files if n.startswith(prefix)}
        assert recorded == self.variables.keys()
        for name, variable in self.variables.items():
            variable.assign(from_torch(self.trace[prefix + name]))

    def load_slots(self, prefix, steps):
        optimizer = self.method.envelope.optimizer
        optimizer.steps.assign(steps)
        for slot, recorded in SLOTS[self.config["opt"]].items():
            for name, variable in zip(self.parameter_names, optimizer.slots[slot], strict=True):
                variable.assign(from_torch(self.trace[f"{prefix}{name}/{recorded}"]))

    @property
    def parameter_names(self):
        """Of the optimizer's parameters, in their order."""
        by_id = {id(variable): name for name, variable in self.variables.items()}
        return [by_id[id(variable)] for variable in self.method.query.parameters]

    def images(self, name, step):
        pixels = (self.trace[name][step].astype(np.float32) - 128) / 64
        return tf.constant(pixels.transpose(0, 2, 3, 1), self.dtype)

    def run(self, step):
        """Details of step 0, 1, ...; the state moves on."""
        rate, momentum = schedules(self.config, step)
        views = (self.images(name, step) for name in ("x1", "x2"))
        _, details = self.step(
            *views, tf.constant(rate, self.dtype), tf.constant(momentum, "float64")
        )
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), details)

    def state(self):
        return {name: to_torch(variable.numpy()) for name, variable in self.variables.items()}
