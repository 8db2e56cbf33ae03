"""Runs single steps of `MoCo.train_step`, the step of pre-training, on given inputs.

State goes in and out by PyTorch's names and layouts: "encoder_q.conv1.weight", "momentum.fc.bias",
"queue" [C, K], "queue_ptr".
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.methods.moco import MoCo
from moco_tf.models.resnet import resnet
from moco_tf.models.torch_names import from_torch, to_torch, torch_name
from moco_tf.training.network import Network
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.sgd import sgd_update
from moco_tf.training.step import StepEnvelope

PREFIXES = {"query_encoder": "encoder_q", "key_encoder": "encoder_k", "momentum": "momentum"}


@dataclass(frozen=True)
class Step:
    """What one training step returned, and the state around it."""

    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    scalars: dict[str, float]
    details: dict[str, Any]  # of train_step, as arrays; gradients by name, in PyTorch's layout


class Replay:
    """A `MoCo` that is stepped on recorded inputs.

    Args:
        encoder: settings of `resnet`, without dtype.
        method: settings of `MoCo`, without encoders, envelope and what `encoder` tells.
        batch_size: B.
        sgd: momentum and weight decay.
        dtype: "float32" or "float64".
    """

    def __init__(
        self, *, encoder: dict, method: dict, batch_size: int, sgd: dict, strategy, dtype: str
    ):
        with strategy.scope():
            query, key = (resnet(**encoder, dtype=dtype, seed=seed) for seed in (0, 1))
        shared = ("group_size", "group_layout", "running_statistics")
        envelope = StepEnvelope(
            Network(query),
            strategy=strategy,
            rule=UpdateRule(partial(sgd_update, **sgd)),
            **{name: encoder[name] for name in shared},
            batch_size=batch_size,
            dtype=dtype,
        )
        self.method = MoCo(Network(key), envelope=envelope, dim=encoder["dim"], **method)
        self.dtype = dtype
        self._train_step = tf.function(
            partial(self.method.train_step, details=True), autograph=False
        )
        self._update_statistics = {
            "encoder_q": tf.function(partial(_statistics_after, query.model), autograph=False),
            "encoder_k": tf.function(partial(_statistics_after, key.model), autograph=False),
        }
        self.parameter_names = [torch_name(v.path) for v in query.model.trainable_variables]
        self.statistics_names = [torch_name(v.path) for v in query.model.non_trainable_variables]
        self.shapes = {
            torch_name(v.path): to_torch(np.empty(v.shape, np.bool_)).shape
            for v in query.model.variables
        }

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a step changes."""
        state = {"queue": self.method.queue.numpy().T, "queue_ptr": self.method.pointer.numpy()}
        for name, variable in self.method.state().items():
            prefix, _, path = name.partition("/")
            if prefix in PREFIXES:
                state[f"{PREFIXES[prefix]}.{torch_name(path)}"] = to_torch(variable.numpy())
        return state

    def assign(self, state: dict[str, np.ndarray]) -> None:
        """Sets everything that a step changes; momentum buffers that are not given become 0."""
        self.method.queue.assign(state["queue"].T.astype(self.dtype))
        self.method.pointer.assign(int(np.ravel(state["queue_ptr"])[0]))
        for name, variable in self.method.state().items():
            prefix, _, path = name.partition("/")
            if prefix not in PREFIXES:
                continue
            torch_path = f"{PREFIXES[prefix]}.{torch_name(path)}"
            if prefix == "momentum" and torch_path not in state:
                variable.assign(np.zeros(variable.shape, self.dtype))
            else:
                variable.assign(from_torch(state[torch_path]).astype(self.dtype))

    def step(self, view1, view2, permutations, learning_rate: float) -> Step:
        """Runs one step. Views are [B, 3, H, W]; permutations [directions, B]."""
        before = self.state()
        scalars, details = self._train_step(
            self._images(view1),
            self._images(view2),
            tf.constant(permutations, tf.int32),
            tf.constant(learning_rate, self.dtype),
        )
        arrays = {name: details[name].numpy() for name in ("queries", "keys", "logits", "losses")}
        arrays["gradients"] = {
            name: to_torch(gradient.numpy())
            for name, gradient in zip(self.parameter_names, details["gradients"], strict=True)
        }
        numbers = {name: float(value) for name, value in scalars.items()}
        return Step(before, self.state(), numbers, arrays)

    def group_statistics(self, encoder, *, parameters, statistics, images) -> dict[str, np.ndarray]:
        """Running statistics of `encoder` after a forward pass over one BatchNorm group.

        Args:
            encoder: "encoder_q" or "encoder_k".
            parameters, statistics: states to take these from, as of before the pass.
            images: one group, [N, 3, H, W].
        """
        new = self._update_statistics[encoder](
            [self._tensor(parameters[f"{encoder}.{name}"]) for name in self.parameter_names],
            [self._tensor(statistics[f"{encoder}.{name}"]) for name in self.statistics_names],
            self._images(images),
        )
        return {
            f"{encoder}.{name}": value.numpy()
            for name, value in zip(self.statistics_names, new, strict=True)
        }

    def _images(self, images):
        return tf.constant(images.transpose(0, 2, 3, 1), self.dtype)

    def _tensor(self, array):
        return tf.constant(from_torch(array), self.dtype)


def _statistics_after(model, parameters, statistics, images):
    return model.stateless_call(parameters, statistics, images, training=True)[1]
