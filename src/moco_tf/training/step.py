"""What the training step of every method needs and no paper describes.

Replicas and microbatches, one order of summation, loss scaling, running statistics that all
replicas agree on, XLA, the optimizer. A method writes the rest: it encodes and takes gradients with
a `Replica`, and changes variables with the `StepEnvelope`.

Legend: B images in the global batch, R replicas, M microbatches of a replica, c images in each.
"""

from itertools import compress

import numpy as np
import tensorflow as tf

from moco_tf.distribute.strategy import worker_place
from moco_tf.names.encoder import ALL
from moco_tf.training.accumulation import replica_rows
from moco_tf.training.finite import all_finite, first_nonfinite, names_of_tensors, nonfinite
from moco_tf.training.gradient_order import sum_gradients_in_order
from moco_tf.training.optimizer import Optimizer
from moco_tf.training.replica import Encoding, Replica

PATCHES = "patch_embed."  # of a ViT, before the names of what makes tokens of an image
BY_IMAGE = ("queries", "logits", "losses")  # details of a step that have a row for each image

sum_gradients_in_order()


class StepEnvelope:
    """The devices of a step, and the optimizer's state.

    Args:
        network: the `Network` that the optimizer trains, built in `strategy.scope()`.
        strategy: tf.distribute strategy; the global batch is spread over its replicas.
        batch_size, group_size: B, and images that BatchNorm normalises together; "all": B, on all
            replicas together, which takes neither microbatches nor parts of their own.
        group_layout: "contiguous" or "interleaved"; see `replica_rows`.
        accumulation_steps: M, microbatches of whole groups. The step is that of the whole batch,
            but for rounding.
        rule: of the optimizer; see `Optimizer`.
        running_statistics: "first_group" (those of the first replica and microbatch) or "mean".
        preprocess: images as they arrive -> the network's input, on the device.
        xla: compile encoders, forward and backward, with XLA.
        compile_parts: a function of its own for each part of the step; it decides the rounding.
        loss_scaling: see `Optimizer`; nor does a step that overflows change anything else to
            values that are not finite.
        dtype: of everything outside the network.
    """

    def __init__(
        self,
        network,
        *,
        strategy,
        batch_size,
        group_size,
        group_layout,
        accumulation_steps=1,
        rule,
        running_statistics,
        preprocess=lambda images: images,
        xla=False,
        compile_parts=True,
        loss_scaling=False,
        dtype="float32",
    ):
        self.network, self.strategy = network, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.microbatches = self.replicas * accumulation_steps  # of the whole batch
        rows = replica_rows(batch_size, group_size, group_layout, self.microbatches)
        self.rows = rows = rows.reshape(self.replicas, accumulation_steps, -1)  # [R, M, c]
        self.position = np.argsort(rows, axis=None).astype(np.int32)  # [B], of a row in that order
        worker, self.workers = worker_place(strategy)
        self.first_position = worker * rows.size // self.workers
        self.statistics_rule = {"first_group": "first", "mean": "mean"}[running_statistics]
        self.preprocess, self.dtype = preprocess, dtype
        apart = group_size != ALL or self.replicas == 1
        if group_size == ALL and (accumulation_steps > 1 or (xla and not apart)):
            raise ValueError(
                'group_size="all" takes whole batches, and on several replicas no XLA; received '
                f"accumulation_steps={accumulation_steps}, xla={xla}, replicas={self.replicas}."
            )
        # Replicas that meet inside a part of the step cannot do so in a tf.function.
        self.xla, self.loss_scaling, self.compile_parts = xla, loss_scaling, compile_parts and apart
        self.optimizer = Optimizer(
            network.parameters,
            network.names,
            strategy=strategy,
            rule=rule,
            loss_scaling=loss_scaling,
            dtype=dtype,
        )

    def compiled_forward(self, network, function):
        """Compiles function(encode, images) -> features, for `Replica.encode`."""

        def forward(parameters, statistics, images):
            encode = Encoding(network, parameters, statistics, self.preprocess)
            features = tf.stop_gradient(function(encode, images))
            counts = nonfinite(**encode.floating_inputs(), keys=features)
            return {"features": features, "statistics": encode.statistics, "nonfinite": counts}

        return self._compiled(forward)

    def compiled_loss(self, function):
        """Compiles function(encode, ...) -> (loss, others, scalars), for `Replica.gradients`.

        The loss is the microbatch's share of that of the whole batch: shares are summed. Of the
        scalars the mean is logged. Others are tensors by name, to be kept or not.
        """

        def loss_and_gradients(parameters, statistics, loss_scale, *arguments):
            encode = Encoding(self.network, parameters, statistics, self.preprocess)
            with tf.GradientTape() as tape:
                tape.watch(parameters)
                loss, others, scalars = function(encode, *arguments)
                scaled = loss * loss_scale if self.loss_scaling else loss
            gradients = tape.gradient(scaled, parameters)
            if self.loss_scaling:
                gradients = [g / loss_scale for g in gradients]
            checked = {n: others[n] for n in ("queries", "logits") if n in others}
            checked |= encode.floating_inputs() | {"loss": loss}
            return {
                "gradients": gradients,
                "statistics": encode.statistics,
                "nonfinite": nonfinite(**checked),
                "scalars": scalars,
            } | others

        return self._compiled(loss_and_gradients)

    def _compiled(self, function):
        if self.xla or self.compile_parts:
            return tf.function(function, autograph=False, jit_compile=self.xla)
        return function

    def run(self, function):
        """Calls function(replica) in every replica; it may return anything, but change nothing."""
        return self.strategy.run(lambda: function(Replica(self)))

    def assign(self, variables, function, *arguments):
        """`variable <- function(variable, argument, ...)`, on every device by itself.

        Args:
            arguments: lists as long as `variables`, or one value for all of them.
        """
        lists = [a if isinstance(a, list) else [a] * len(variables) for a in arguments]
        for variable, *own in zip(variables, *lists, strict=True):
            self.strategy.extended.update(
                variable, lambda v, *args: v.assign(function(v, *args)), args=tuple(own)
            )

    def keep_statistics(self, network, statistics):
        """Gives a network the statistics that all replicas agreed on, and moves its seeds on."""
        new = [self.of_any_replica(value) for value in statistics]
        running = list(compress(new, network.running))
        variables = list(compress(network.statistics, network.running))
        if self.loss_scaling and running:
            finite = all_finite(running)
            running = [tf.where(finite, *pair) for pair in zip(running, variables, strict=True)]
        for variable, value in zip(variables, running, strict=True):
            variable.assign(value)
        for state, value in compress(zip(network.statistics, new, strict=True), network.seeds):
            state.assign(tf.stack([state[0], value[1]]))

    def logged(self, result, gradients):
        """Numbers to log: the scalars of `Replica.gradients`, and "first_nonfinite".

        The latter tells where numbers were first not finite: it counts `tensor_names` from 1 on.
        Where a ViT's patch projection is trained, "patch_gradient_share" is the norm of its
        gradient over that of the whole (arXiv:2104.02057, section 4). Call it before `apply`.
        """
        scalars = {name: self.of_any_replica(value) for name, value in result["scalars"].items()}
        own = [self.of_any_replica(gradient) for gradient in gradients]
        counts = scalars.pop("nonfinite")
        patches = [g for g, n in zip(own, self.network.names, strict=True) if n.startswith(PATCHES)]
        if patches:
            norms = [tf.linalg.global_norm(each) for each in (patches, own)]
            scalars["patch_gradient_share"] = tf.math.divide_no_nan(*norms)
        return scalars | {"first_nonfinite": first_nonfinite(counts, self.network.parameters, own)}

    def details(self, result, gradients, directions):
        """What a replay compares, in batch order: `BY_IMAGE` and "keys", [D, B, ...]; "gradients".

        Args:
            result: what the replicas returned, with [b, D, ...] of each image.
            directions: D.
        """
        by_image = {name: self.in_batch_order(result[name]) for name in BY_IMAGE}  # [B, D, ...]
        by_image = {n: tf.stack(tf.unstack(v, directions, axis=1)) for n, v in by_image.items()}
        return by_image | {
            "keys": self.of_any_replica(result["keys"]),
            "gradients": [self.of_any_replica(gradient) for gradient in gradients],
        }

    @property
    def tensor_names(self):
        """Names of the tensors that `first_nonfinite` counts."""
        return names_of_tensors(self.network.names)

    def of_any_replica(self, value):
        """What all replicas have alike."""
        return self.strategy.experimental_local_results(value)[0]

    def in_batch_order(self, values):
        """The rows of all replicas, [b, ...] each, in the order of the batch: [B, ...]."""
        if self.replicas > 1:
            values = self.strategy.gather(values, axis=0)
        if self.microbatches > 1:
            values = tf.gather(values, tf.math.invert_permutation(self.rows.reshape(-1)))
        return values

    def own_rows(self):
        """Rows of the global batch that this worker's images are, in order; None: all of it."""
        if self.workers == 1:
            return None
        count = self.rows.size // self.workers
        return self.rows.reshape(-1)[self.first_position : self.first_position + count]
