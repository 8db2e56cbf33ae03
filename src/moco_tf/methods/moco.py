"""MoCo v1 and v2: the state of a run and one training step (arXiv:1911.05722, Algorithm 1).

Legend: B images in the batch, b of a replica, c in a microbatch, C feature dimensions, K queue
size, D directions: a symmetric loss compares twice (D = 2), with the views' roles exchanged.
"""

import tensorflow as tf

from moco_tf.methods.loss import (
    contrast_scalars,
    feature_std,
    info_nce,
    queue_logits,
    unit_norm,
)
from moco_tf.methods.momentum import momentum_update, momentum_weights
from moco_tf.methods.queue import enqueue, initial_queue
from moco_tf.methods.shuffle import unshuffle
from moco_tf.training.step import BY_IMAGE


class MoCo:
    """Both encoders and the queue, and the step that changes them.

    Args:
        key: the key encoder, a `Network` of the structure of `envelope.network`, the query encoder.
            Its parameters are overwritten with the query encoder's.
        envelope: `StepEnvelope` that trains the query encoder.
        queue_size, key_momentum, temperature: K, m and T of the paper.
        dim: C.
        symmetric: let each view be query and key in turn, and sum both losses.
    """

    def __init__(
        self, key, *, envelope, queue_size, dim, key_momentum, temperature, symmetric=False, seed=0
    ):
        self.envelope, self.query, self.key = envelope, envelope.network, key
        self.key_momentum, self.temperature, self.symmetric = key_momentum, temperature, symmetric
        for parameter, of_query in zip(key.parameters, self.query.parameters, strict=True):
            parameter.assign(of_query)
        with envelope.strategy.scope():
            queue = tf.cast(initial_queue(queue_size, dim, seed), envelope.dtype)
            self.queue = tf.Variable(queue, trainable=False)  # [K, C]
            self.pointer = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._compiled_keys = envelope.compiled_forward(key, self._features)
        self._compiled_loss = envelope.compiled_loss(self._loss)

    def train_step(self, view1, view2, permutations, learning_rate, *, details=False):
        """One step of Algorithm 1. Call it in a tf.function.

        The key encoder is updated first, as in the official code: at the first step it equals the
        query encoder, so keys and losses are those of Algorithm 1, which updates it last.

        Args:
            view1, view2: the two views of the batch, [B, H, W, 3], or what `preprocess` makes them
                of; view 1 is the query.
                With several workers each gives the rows of `envelope.own_rows` only.
            permutations: [D, B], one shuffle of the batch for each direction.
            learning_rate: scalar.
            details: also return what a replay compares; gathers much from the replicas.

        Returns:
            (scalars, details): numbers to log and "first_nonfinite"; and, if asked for, in batch
            order: "queries" and "keys" [D, B, C], "logits" [D, B, 1 + K], "losses" [D, B],
            "gradients" of the parameters, before weight decay.
        """
        env, directions = self.envelope, [(view1, view2), (view2, view1)][: 1 + self.symmetric]
        weights, kept = self.query.parameters, dict.fromkeys(BY_IMAGE if details else (), "rows")
        momentum = momentum_weights(self.key_momentum, env.dtype)
        env.assign(self.key.parameters, momentum_update, weights, momentum)  # equation 2

        def forward_and_backward(replica):
            keys, statistics = [], None
            for (_, images), order in zip(directions, tf.unstack(permutations), strict=True):
                mine, statistics = replica.encode(  # of the images shuffled by `order`
                    self._compiled_keys, self.key, images, order, statistics
                )
                keys.append(unshuffle(replica.gather(mine), order, env.rows))  # [B, C]; section 3.3
            query_images = [images for images, _ in directions]
            queue = tf.identity(self.queue)  # [K, C], as it is before this step
            result = replica.gradients(self._compiled_loss, query_images, keys, queue, keep=kept)
            agreed = replica.agree(self.key, statistics)
            return result | {"keys": tf.stack(keys), "key_statistics": agreed}

        result = env.run(forward_and_backward)
        gradients = env.optimizer.sum_over_replicas(result["gradients"])
        scalars = env.logged(result, gradients)
        env.assign([self.queue], self._enqueued, result["keys"])  # section 3.1
        self.pointer.assign((self.pointer + tf.size(permutations, tf.int64)) % self.queue.shape[0])
        env.optimizer.apply(gradients, learning_rate)
        env.keep_statistics(self.query, result["statistics"])
        env.keep_statistics(self.key, result["key_statistics"])
        scalars["feature_std"] = feature_std(scalars.pop("feature_mean"))
        return scalars, env.details(result, gradients, 1 + self.symmetric) if details else {}

    def _features(self, encode, images):
        """Unit features of a microbatch, [c, C]."""
        return unit_norm(tf.cast(encode(images), self.envelope.dtype))

    def _loss(self, encode, images, keys, queue):
        """InfoNCE of a microbatch (equation 1), all directions added; what to keep; what to log."""
        queries = [self._features(encode, views) for views in images]  # D of [c, C]
        logits = [
            queue_logits(*pair, queue, self.temperature) for pair in zip(queries, keys, strict=True)
        ]  # D of [c, 1 + K]
        losses = tf.stack([info_nce(direction) for direction in logits])  # [D, c]
        loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
        every, features = tf.concat(logits, axis=0), tf.concat(queries, axis=0)
        scalars = {"loss": loss} | contrast_scalars(every, features, self.temperature)
        by_image = {"queries": queries, "logits": logits}
        by_image = {name: tf.stack(value, axis=1) for name, value in by_image.items()}
        by_image["losses"] = tf.transpose(losses)
        return loss / self.envelope.microbatches, by_image, scalars

    def _enqueued(self, queue, keys):
        """The queue with the keys [D, B, C]; of symmetric ones view 1's go in first (demo)."""
        rows = tf.reshape(tf.reverse(keys, axis=[0]), [-1, keys.shape[-1]])
        new = enqueue(queue, self.pointer, rows)[0]
        if self.envelope.loss_scaling:  # an overflow must not stay in the queue
            whole = tf.reduce_all(tf.math.is_finite(new), axis=1, keepdims=True)  # [K, 1]
            new = tf.where(whole, new, queue)
        return new

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name."""
        state = {"queue": self.queue, "queue_pointer": self.pointer}
        state |= self.query.state("query_encoder") | self.key.state("key_encoder")
        return state | self.envelope.optimizer.state()
