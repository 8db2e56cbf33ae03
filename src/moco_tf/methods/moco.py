"""MoCo v1 and v2: the state of a run and one training step (arXiv:1911.05722, Algorithm 1).

Legend: B images in the global batch, R replicas, b = B / R, c images in a microbatch of
a replica's b, C feature dimensions, K queue size; a symmetric loss compares twice (directions = 2),
with the views' roles exchanged.
"""

import contextlib
from functools import partial

import numpy as np
import tensorflow as tf

from moco_tf.distribute.collectives import broadcast_from_first, gather_rows, mean_over_replicas
from moco_tf.distribute.strategy import worker_place
from moco_tf.methods.loss import (
    info_nce,
    negative_mean,
    queue_logits,
    top_k_accuracy,
    unit_norm,
)
from moco_tf.methods.momentum import momentum_update
from moco_tf.methods.queue import (
    NO_IMAGE,
    enqueue,
    enqueue_images,
    initial_queue,
    negatives_of,
    same_image,
)
from moco_tf.methods.shuffle import pick, replica_rows, shuffle, unshuffle
from moco_tf.models.recompute import recomputing
from moco_tf.training.accumulation import in_microbatches
from moco_tf.training.finite import first_nonfinite, names_of_tensors, nonfinite
from moco_tf.training.sgd import sgd_update

SUM = tf.distribute.ReduceOp.SUM
BY_IMAGE = ("queries", "logits", "losses")  # details of a step that have a row for each image

# Dynamic loss scaling (mixed_float16): doubled after this many finite steps, halved at overflow.
LOSS_SCALE_GROWTH_STEPS = 2000
INITIAL_LOSS_SCALE = 2.0**15


class MoCo:
    """Both encoders, the queue and the optimizer's buffers, and the step that changes them.

    Args:
        query, key: `Encoder`s of one structure, built in `strategy.scope()`. The key encoder's
            parameters are overwritten with the query encoder's.
        strategy: tf.distribute strategy; the global batch is spread over its replicas.
        queue_size, key_momentum, temperature: K, m and T of the paper.
        symmetric: let each view be query and key in turn, and sum both losses.
        preprocess: images as they arrive -> the encoder's input, on the device.
        xla: compile the encoders, forward and backward, with XLA.
        loss_scaling: scale the loss against float16 underflow, and let a step that overflows
            change neither parameters nor buffers, and nothing else to values that are not finite.
        accumulation_steps: microbatches of whole groups in which a replica encodes its images, one
            after another. The step is that of the whole batch, but for rounding.
        recompute: keep only what goes into each residual block of the query encoder, and compute
            the rest again in the backward pass.
        mask_same_image: keep which image each key is of, and leave out of the negatives keys of the
            query's own image, and those of another image that are not of its newest step.
    """

    def __init__(
        self,
        query,
        key,
        *,
        strategy,
        queue_size,
        dim,
        batch_size,
        group_size,
        group_layout,
        running_statistics,
        key_momentum,
        temperature,
        symmetric,
        sgd_momentum,
        weight_decay,
        dtype="float32",
        seed=0,
        preprocess=lambda images: images,
        xla=False,
        loss_scaling=False,
        accumulation_steps=1,
        recompute=False,
        mask_same_image=False,
    ):
        self.query, self.key, self.strategy = query, key, strategy
        self.key_momentum, self.temperature, self.symmetric = key_momentum, temperature, symmetric
        self.sgd_momentum, self.weight_decay = sgd_momentum, weight_decay
        self.running_statistics, self.loss_scaling = running_statistics, loss_scaling
        self.dtype, self.preprocess = dtype, preprocess
        self.replicas = strategy.num_replicas_in_sync
        self.microbatches = self.replicas * accumulation_steps
        rows = replica_rows(batch_size, group_size, group_layout, self.microbatches)
        self.rows = rows.reshape(self.replicas, accumulation_steps, -1)  # [R, microbatches, c]
        self.position = np.argsort(self.rows, axis=None).astype(np.int32)  # [B], in that order
        worker, self.workers = worker_place(strategy)
        self.first_position = worker * batch_size // self.workers
        self.parameters = [v.value for v in query.model.trainable_variables]
        self.key_parameters = [v.value for v in key.model.trainable_variables]
        for ours, theirs in zip(self.key_parameters, self.parameters, strict=True):
            ours.assign(theirs)
        with strategy.scope():
            queue = tf.cast(initial_queue(queue_size, dim, seed), dtype)
            self.queue = tf.Variable(queue, trainable=False)  # [K, C]
            self.pointer = tf.Variable(0, dtype=tf.int64, trainable=False)
            unknown = tf.fill([queue_size], tf.cast(NO_IMAGE, tf.int64))
            self.queue_images = tf.Variable(unknown, trainable=False) if mask_same_image else None
            self.buffers = [tf.Variable(tf.zeros_like(p), trainable=False) for p in self.parameters]
            self.loss_scale = tf.Variable(
                tf.cast(INITIAL_LOSS_SCALE if loss_scaling else 1, dtype), trainable=False
            )
            self.finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._encode_queries = recomputing(query) if recompute else query.model.stateless_call
        self._encode_keys = tf.function(self._encode_keys_on_device, jit_compile=xla)
        self._compare = tf.function(self._compare_on_device, jit_compile=xla)

    def train_step(self, view1, view2, permutations, learning_rate, images=None, *, details=False):
        """One step: momentum update, keys, queries, loss, enqueue, SGD. Call in a tf.function.

        Args:
            view1, view2: the two views of the global batch, [B, H, W, 3]; view 1 is the query.
                With several workers each gives the rows of its own replicas only; see `own_rows`.
            permutations: [directions, B], one shuffle of the batch for each key batch.
            learning_rate: scalar.
            images: int64 [B], which image each row of the global batch is of, for
                `mask_same_image`; else none.
            details: also return what a replay compares; gathers much from the replicas.

        Returns:
            (scalars, details): numbers to log and "first_nonfinite", which counts `tensor_names`;
            and, if asked for, in batch order: "queries" and "keys" [directions, B, C], "logits"
            [directions, B, 1 + K], "losses" [directions, B], "gradients" of the parameters, before
            weight decay.
        """
        if (images is None) != (self.queue_images is None):
            raise ValueError(
                f"images must be given with mask_same_image, and only then; received images="
                f"{images}. Pass the numbers of the batch's images, [B]."
            )
        for key, query in zip(self.key_parameters, self.parameters, strict=True):
            self._update(key, momentum_update, query, self.key_momentum)  # equation 2
        arguments = (view1, view2, permutations, images, details)
        result = self.strategy.run(self._replica_step, args=arguments)
        # A microbatch's loss is divided by their number in all replicas: gradients are summed.
        gradients = self.strategy.extended.batch_reduce_to(
            SUM, list(zip(result["gradients"], self.parameters, strict=True))
        )
        scalars = {name: self._of_any(value) for name, value in result["scalars"].items()}
        scalars["first_nonfinite"] = first_nonfinite(
            scalars.pop("nonfinite"), self.parameters, [self._of_any(g) for g in gradients]
        )
        if self.queue_images is not None:
            self._update(self.queue_images, self._enqueued_images, result["keys"], images)
        self._update(self.queue, self._enqueued, result["keys"])  # section 3.1
        count = permutations.shape[0] * permutations.shape[1]
        self.pointer.assign((self.pointer + count) % self.queue.shape[0])
        self._apply(gradients, tf.cast(learning_rate, self.dtype))
        self._keep_statistics(self.query.model, result["query_statistics"])
        self._keep_statistics(self.key.model, result["key_statistics"])
        # Rows are unit vectors, so the mean square of a feature over all of them is 1 / C.
        spread = 1 - tf.reduce_sum(scalars.pop("feature_mean") ** 2)
        scalars["feature_std"] = tf.sqrt(tf.maximum(spread, 0) / self.queue.shape[1])
        return scalars, self._details(result, gradients) if details else {}

    def _replica_step(self, view1, view2, permutations, images, details):
        """Forward and backward of one replica's share of the batch; changes nothing."""
        context = tf.distribute.get_replica_context()
        rows = tf.gather(self.rows, context.replica_id_in_sync_group)  # [microbatches, c]
        pairs = [(view1, view2), (view2, view1)] if self.symmetric else [(view1, view2)]
        rule = {"first_group": "first", "mean": "mean"}[self.running_statistics]
        parameters = [tf.identity(p) for p in self.key_parameters]
        statistics = [tf.identity(v.value) for v in self.key.model.non_trainable_variables]
        keys, earlier = [], nonfinite()
        how = {"keys": "rows", "statistics": rule, "nonfinite": "sum"}
        for (_, key_images), permutation in zip(pairs, tf.unstack(permutations), strict=True):
            shuffled, order = self._to_shuffle(key_images, permutation, rows)
            encode = partial(self._encode_microbatch, parameters, statistics, shuffled, order)
            encoded = in_microbatches(encode, rows, how)
            local, statistics = encoded["keys"], encoded["statistics"]
            earlier += encoded["nonfinite"]
            if self.replicas > 1:
                gathered = context.all_gather(local, axis=0)
                local = tf.ensure_shape(gathered, [self.rows.size, local.shape[1]])
            keys.append(unshuffle(local, permutation, self.rows))  # [B, C]
        compare = partial(
            self._compare_microbatch,
            [tf.identity(p) for p in self.parameters],
            [tf.identity(v.value) for v in self.query.model.non_trainable_variables],
            tf.identity(self.queue),
            tf.identity(self.loss_scale),
            [query_images for query_images, _ in pairs],
            keys,
            None if images is None else (images, tf.identity(self.queue_images)),
        )
        how = {"gradients": "sum", "query_statistics": rule, "scalars": "mean", "nonfinite": "sum"}
        result = in_microbatches(
            compare, rows, how | dict.fromkeys(BY_IMAGE if details else (), "rows")
        )
        agree = {"first": broadcast_from_first, "mean": mean_over_replicas}[rule]
        return result | {
            "keys": tf.stack(keys),
            "key_statistics": agree(statistics),
            "query_statistics": agree(result["query_statistics"]),
            "scalars": mean_over_replicas(
                result["scalars"] | {"nonfinite": result["nonfinite"] + earlier}
            ),
        }

    def own_rows(self):
        """Rows of the global batch that this worker's images are, in order; None: all of it."""
        if self.workers == 1:
            return None
        count = self.rows.size // self.workers
        return self.rows.reshape(-1)[self.first_position : self.first_position + count]

    def _own(self, rows):
        """Where these rows of the global batch are among the images of this worker."""
        return rows if self.workers == 1 else tf.gather(self.position, rows) - self.first_position

    def _to_shuffle(self, images, permutation, rows):
        """The images of all workers, and where they are in the shuffled order (section 3.3)."""
        if self.workers == 1:
            return images, permutation
        own = pick(images, self._own(tf.reshape(rows, [-1])))
        return gather_rows(own), tf.gather(self.position, permutation)

    def _encode_microbatch(self, parameters, statistics, images, permutation, rows):
        with self._beside_the_images():
            shuffled = shuffle(images, permutation, rows)
        return self._encode_keys(parameters, statistics, shuffled)

    def _compare_microbatch(
        self, parameters, statistics, queue, loss_scale, views, keys, numbers, rows
    ):
        hidden = None
        if numbers is not None:
            images, queue_images = numbers
            hidden = same_image(tf.gather(images, rows), queue_images)  # [c, K]
        if self.microbatches > 1:
            with self._beside_the_images():
                views = [pick(call, self._own(rows)) for call in views]
            keys = [pick(call, rows) for call in keys]
        return self._compare(parameters, statistics, views, keys, queue, loss_scale, hidden)

    def _beside_the_images(self):
        """Where rows are picked: several replicas get theirs from the host, not the whole batch."""
        one_host = self.replicas > 1 and self.workers == 1
        return tf.device("CPU:0") if one_host else contextlib.nullcontext()

    def _encode_keys_on_device(self, parameters, statistics, images):
        images = self.preprocess(images)
        keys, statistics = self.key.model.stateless_call(
            parameters, statistics, images, training=True
        )
        keys = tf.stop_gradient(unit_norm(tf.cast(keys, self.dtype)))  # [c, C]
        return {
            "keys": keys,
            "statistics": statistics,
            "nonfinite": nonfinite(images=images, keys=keys),
        }

    def _compare_on_device(
        self, parameters, statistics, images, keys, queue, loss_scale, hidden=None
    ):
        """Queries against keys and queue: InfoNCE and its gradient, on a microbatch."""
        prepared, queries, logits = [], [], []
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            for views, positives in zip(images, keys, strict=True):
                prepared.append(self.preprocess(views))
                output, statistics = self._encode_queries(
                    parameters, statistics, prepared[-1], training=True
                )
                queries.append(unit_norm(tf.cast(output, self.dtype)))  # [c, C]
                logits.append(queue_logits(queries[-1], positives, queue, self.temperature, hidden))
            losses = tf.stack([info_nce(call) for call in logits])  # [directions, c]
            loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))  # both directions are added
            scaled = loss * loss_scale / self.microbatches
        gradients = [g / loss_scale for g in tape.gradient(scaled, parameters)]
        every, features = tf.concat(logits, axis=0), tf.concat(queries, axis=0)
        masked = {} if hidden is None else {"negatives": negatives_of(hidden, self.dtype)}
        return {
            "gradients": gradients,
            "query_statistics": statistics,
            "queries": tf.stack(queries, axis=1),  # [c, directions, C]
            "logits": tf.stack(logits, axis=1),
            "losses": tf.transpose(losses),
            "nonfinite": nonfinite(images=prepared, queries=features, logits=every, loss=loss),
            "scalars": {
                "loss": loss,
                "top1": top_k_accuracy(every, 1),
                "top5": top_k_accuracy(every, 5),
                "positive_similarity": tf.reduce_mean(every[:, 0]) * self.temperature,
                "negative_similarity": negative_mean(every, hidden is not None) * self.temperature,
                "feature_mean": tf.reduce_mean(features, axis=0),  # [C]
            }
            | masked,
        }

    def _enqueued_images(self, queue_images, keys, images):
        whole = None
        if self.loss_scaling:
            whole = tf.reduce_all(tf.math.is_finite(_in_order(keys)), axis=1)  # [directions * B]
        directions = tf.tile(images, [keys.shape[0]])
        return enqueue_images(queue_images, self.pointer, directions, whole)

    def _enqueued(self, queue, keys):
        new = enqueue(queue, self.pointer, _in_order(keys))[0]
        if self.loss_scaling:
            whole = tf.reduce_all(tf.math.is_finite(new), axis=1, keepdims=True)  # [K, 1]
            new = tf.where(whole, new, queue)
        return new

    @property
    def tensor_names(self):
        """Names of where numbers may first not be finite: of "first_nonfinite", from 1 on."""
        return names_of_tensors([v.path for v in self.query.model.trainable_variables])

    def _apply(self, gradients, learning_rate):
        finite = tf.constant(True)
        if self.loss_scaling:
            first = [self._of_any(gradient) for gradient in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in first])
            steps = tf.where(finite, self.finite_steps + 1, 0)
            grow = steps >= LOSS_SCALE_GROWTH_STEPS
            factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
            self.loss_scale.assign(tf.maximum(self.loss_scale * tf.cast(factor, self.dtype), 1))
            self.finite_steps.assign(tf.where(grow, tf.zeros_like(steps), steps))

        def update(parameter, buffer, gradient, rate, finite):
            new, new_buffer = sgd_update(
                parameter,
                buffer,
                gradient,
                rate,
                momentum=self.sgd_momentum,
                weight_decay=self.weight_decay,
            )
            if self.loss_scaling:
                new = tf.where(finite, new, parameter)
                new_buffer = tf.where(finite, new_buffer, buffer)
            buffer.assign(new_buffer)
            parameter.assign(new)

        for parameter, buffer, gradient in zip(
            self.parameters, self.buffers, gradients, strict=True
        ):
            self.strategy.extended.update(
                parameter, update, args=(buffer, gradient, learning_rate, finite)
            )

    def _update(self, variable, function, *arguments):
        """`variable <- function(variable, *arguments)`, on every device by itself."""
        self.strategy.extended.update(
            variable, lambda v, *args: v.assign(function(v, *args)), args=arguments
        )

    def _of_any(self, value):
        """What all replicas have alike."""
        return self.strategy.experimental_local_results(value)[0]

    def _keep_statistics(self, model, statistics):
        new = [self._of_any(value) for value in statistics]
        variables = [variable.value for variable in model.non_trainable_variables]
        if self.loss_scaling:
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in new])
            new = [tf.where(finite, *pair) for pair in zip(new, variables, strict=True)]
        for variable, value in zip(variables, new, strict=True):
            variable.assign(value)

    def _details(self, result, gradients):
        return {n: self._in_batch_order(result[n]) for n in BY_IMAGE} | {
            "keys": self._of_any(result["keys"]),
            "gradients": [self._of_any(gradient) for gradient in gradients],
        }

    def _in_batch_order(self, values):
        """Per-replica [b, directions, ...] -> [directions, B, ...]."""
        if self.replicas > 1:
            values = self.strategy.gather(values, axis=0)
        if self.microbatches > 1:
            values = tf.gather(values, tf.math.invert_permutation(self.rows.reshape(-1)))
        return tf.stack(tf.unstack(values, 2 if self.symmetric else 1, axis=1))

    def forget_images(self):
        """For keys of images that are numbered otherwise from now on: none of them is masked."""
        if self.queue_images is not None:
            self.queue_images.assign(tf.fill(self.queue_images.shape, tf.cast(NO_IMAGE, tf.int64)))

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name."""
        state = {"queue": self.queue, "queue_pointer": self.pointer}
        for prefix, encoder in (("query_encoder", self.query), ("key_encoder", self.key)):
            state |= {f"{prefix}/{v.path}": v.value for v in encoder.model.variables}
        names = [v.path for v in self.query.model.trainable_variables]
        state |= {f"momentum/{n}": b for n, b in zip(names, self.buffers, strict=True)}
        if self.loss_scaling:
            state |= {"loss_scale": self.loss_scale, "finite_steps": self.finite_steps}
        if self.queue_images is not None:
            state["queue_images"] = self.queue_images
        return state


def _in_order(keys):
    """Keys [directions, B, C] as they go into the queue, [directions * B, C].

    Symmetric: those of view 1, which the second call made, go in first (demo notebook).
    """
    return tf.reshape(tf.reverse(keys, axis=[0]), [-1, keys.shape[-1]])
