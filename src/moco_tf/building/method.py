"""From a `Config` to the method of a run, its compiled step, and its schedules."""

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from moco_tf.building.batches import build_finish
from moco_tf.building.precision import with_precision
from moco_tf.config import Config
from moco_tf.config.batch_groups import check_microbatches
from moco_tf.config.method import V3, check_heads
from moco_tf.data.pipeline import normalize
from moco_tf.data.sources import Images
from moco_tf.methods.moco import MoCo
from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models.batch_norm import running_variables
from moco_tf.models.recompute import recomputing
from moco_tf.runs.encoders import untrained_encoder
from moco_tf.training.adamw import adamw
from moco_tf.training.gradient_cache import gradient_cache
from moco_tf.training.lars import lars
from moco_tf.training.memory import without_collector
from moco_tf.training.network import Network
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.schedules import cosine_momentum, learning_rate
from moco_tf.training.sgd import sgd_update
from moco_tf.training.step import StepEnvelope

Method = MoCo | MoCoV3
Schedule = Callable[[int], float]  # of the step


def build_method(
    config: Config, strategy: tf.distribute.Strategy, train: Images | None = None
) -> Method:
    """Returns the untrained method that `config` describes, on the devices of `strategy`.

    Args:
        train: the images, of which `build_batches` gives the views; none: whole views come.
    """
    config = with_precision(config)
    check_heads(config.method, config.head)
    compute_dtype = config.precision.removeprefix("mixed_")
    finish, cached = build_finish(config, train, strategy), config.caches_gradients

    def preprocess(view):
        return normalize(finish(view), config.normalization, compute_dtype)

    with strategy.scope():
        query = untrained_encoder(config, dtype=config.precision)
        key = untrained_encoder(config, dtype=config.precision, predictor=False)
    envelope = StepEnvelope(
        _network(config, query, preprocess, _cuts(config, query)),
        strategy=strategy,
        batch_size=config.batch_size,
        group_size=config.group_size,
        group_layout=config.group_layout,
        accumulation_steps=1 if cached else config.accumulation_steps,
        rule=_rule(config),
        running_statistics=config.running_statistics,
        preprocess=(lambda view: view) if cached else preprocess,
        xla=use_xla(config),
        loss_scaling=config.precision == "mixed_float16",
        dtype="float64" if config.precision == "float64" else "float32",
    )
    key_network = _network(config, key, preprocess, stream=1)
    if config.method == V3:
        return MoCoV3(key_network, envelope=envelope, temperature=config.temperature)
    return MoCo(
        key_network,
        envelope=envelope,
        queue_size=config.queue_size,
        dim=config.dim,
        key_momentum=config.key_momentum,
        temperature=config.temperature,
        symmetric=config.symmetric,
        seed=config.seed,
    )


def _cuts(config, query):
    """Where the query network's backward pass starts anew; see `Encoder`."""
    if config.recompute:
        return query.cuts
    # A ResNet's light cuts save v3 a fifth of the memory, which keeps two views; v1 and v2 nothing.
    return query.light_cuts if config.method == V3 or config.is_vit else ()


def _network(config, encoder, preprocess, cuts=(), *, stream=0):
    """An encoder as a step of `config` calls it; its backward pass keeps what goes in at `cuts`."""
    if not config.caches_gradients:
        return Network(encoder, recomputing(encoder.model, cuts), stream)
    if running_variables(encoder.backbone):
        sizes = config.batch_size, config.group_size, config.devices or 1
        check_microbatches(*sizes, config.accumulation_steps, config.encoder)
    call = recomputing(encoder.backbone, cuts)
    cache = gradient_cache(encoder, config.accumulation_steps, preprocess, call)
    return Network(encoder, cache, stream)


def _rule(config: Config) -> UpdateRule:
    """What the optimizer of `config` does to each parameter."""
    momentum = {"momentum": config.sgd_momentum, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return adamw(weight_decay=config.weight_decay)
    return (
        lars(**momentum)
        if config.optimizer == "lars"
        else UpdateRule(partial(sgd_update, **momentum))
    )


def use_xla(config: Config) -> bool:
    """Whether the encoders are compiled with XLA: if asked for, for it measured slower on CPUs.

    Nothing has been measured on a GPU, so there too it is left to the user.
    """
    return config.xla == "on"


def build_step(config: Config, method: Method) -> Callable:
    """Returns the compiled step: (view 1, view 2, number, learning rate) -> scalars to log.

    That of MoCo v3 also takes the key encoder's momentum, or else the config's.
    """
    # NumPy's: TensorFlow keeps for good each of Python's numbers that it made a tensor of.
    if isinstance(method, MoCoV3):

        @tf.function(autograph=False)
        @without_collector()  # while it is traced
        def compiled_v3(view1, view2, rate, momentum):
            return method.train_step(view1, view2, rate, momentum)[0]

        return lambda view1, view2, _, rate, momentum=config.key_momentum: compiled_v3(
            view1, view2, tf.constant(np.float32(rate)), tf.constant(np.float64(momentum))
        )
    directions = 2 if config.symmetric else 1

    @tf.function(autograph=False)
    @without_collector()  # while it is traced
    def compiled(view1, view2, number, rate):
        permutations = random_permutation(config.seed, number, directions, config.batch_size)
        return method.train_step(view1, view2, permutations, rate)[0]

    return lambda view1, view2, number, rate: compiled(
        view1, view2, tf.constant(np.int64(number)), tf.constant(np.float32(rate))
    )


def build_schedules(config: Config, epoch_steps: int) -> dict[str, Schedule]:
    """Returns what changes from step to step, by its name in the logs, in the step's order."""
    schedules = {"lr": build_schedule(config, epoch_steps)}
    if config.method != V3:
        return schedules

    def momentum(step: int) -> float:
        if config.momentum_schedule == "constant":
            return config.key_momentum
        epochs = _epochs_at(config, step)
        return cosine_momentum(
            step, steps_per_epoch=epoch_steps, epochs=epochs, base=config.key_momentum
        )

    return schedules | {"momentum": momentum}


def build_schedule(config: Config, epoch_steps: int) -> Schedule:
    """Returns the learning rate as a function of the step."""

    def rate(step: int) -> float:
        return learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=_epochs_at(config, step),
            base=config.scaled_learning_rate,
            schedule=config.schedule,
            milestones=config.milestones,
            drop=config.lr_drop,
            unit=config.schedule_unit,
            first_epoch=config.first_epoch,
            warmup_epochs=config.warmup_epochs,
        )

    return rate


def _epochs_at(config: Config, step: int) -> int:
    """The epochs of the run as they were meant to be at `step`."""
    earlier = (epochs for until, epochs in config.earlier_schedules if step < until)
    return next(earlier, config.epochs)
