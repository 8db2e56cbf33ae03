"""MoCo v3: the state of a run and one training step (arXiv:2104.02057, Algorithm 1).

Legend: B images in the global batch, b of a replica, c in a microbatch, C feature dimensions.
"""

import tensorflow as tf

from moco_tf.methods.loss import (
    contrast_scalars,
    feature_std,
    in_batch_logits,
    info_nce,
    unit_norm,
)
from moco_tf.methods.momentum import momentum_update, momentum_weights
from moco_tf.training.step import BY_IMAGE


class MoCoV3:
    """The query network, the momentum encoder, and the step that changes them.

    Args:
        key: the momentum encoder, a `Network`: backbone and projector. Its variables are
            overwritten with those of the same names of `envelope.network`.
        envelope: `StepEnvelope` that trains the query network: backbone, projector, predictor.
        temperature: tau of the paper.
    """

    def __init__(self, key, *, envelope, temperature):
        self.envelope, self.query, self.key = envelope, envelope.network, key
        self.temperature = temperature
        for name, variable in key.variables.items():
            variable.assign(self.query.variables[name])
        self.shared = [self.query.variables[name] for name in key.names]  # all but the predictor
        self._compiled_keys = envelope.compiled_forward(key, self._projections)
        self._compiled_loss = envelope.compiled_loss(self._loss)

    def train_step(self, view1, view2, learning_rate, key_momentum, *, details=False):
        """One step of Algorithm 1. Call it in a tf.function.

        The momentum encoder is updated before the optimizer's step, as in the official code.

        Args:
            view1, view2: the two views of the batch, [B, H, W, 3], or what `preprocess` makes them
                of. With several workers each gives the rows of `envelope.own_rows` only.
            learning_rate: scalar.
            key_momentum: float64 scalar.
            details: also return what a replay compares; gathers much from the replicas.

        Returns:
            (scalars, details): numbers to log and "first_nonfinite"; and, if asked for, in batch
            order: "queries" and "keys" [2, B, C], as they are before normalisation, "logits"
            [2, B, B], "losses" [2, B], "gradients" of the parameters, before weight decay.
        """
        env, views = self.envelope, [view1, view2]
        rows, kept = tf.range(env.rows.size), dict.fromkeys(BY_IMAGE if details else (), "rows")
        momentum = momentum_weights(key_momentum, env.dtype)
        env.assign(self.key.parameters, momentum_update, self.shared, momentum)

        def forward_and_backward(replica):
            keys, statistics = [], None
            for images in views:
                mine, statistics = replica.encode(
                    self._compiled_keys, self.key, images, None, statistics
                )
                keys.append(tf.gather(replica.gather(mine), env.position))  # [B, C]
            result = replica.gradients(self._compiled_loss, views, [rows], *keys, keep=kept)
            agreed = replica.agree(self.key, statistics)
            return result | {"keys": tf.stack(keys), "key_statistics": agreed}

        result = env.run(forward_and_backward)
        gradients = env.optimizer.sum_over_replicas(result["gradients"])
        scalars = env.logged(result, gradients)
        env.optimizer.apply(gradients, learning_rate)
        env.keep_statistics(self.query, result["statistics"])
        env.keep_statistics(self.key, result["key_statistics"])
        scalars["feature_std"] = feature_std(scalars.pop("feature_mean"))
        return scalars, env.details(result, gradients, 2) if details else {}

    def _projections(self, encode, images):
        """What a network makes of a microbatch, [c, C]."""
        return tf.cast(encode(images), self.envelope.dtype)

    def _loss(self, encode, images, rows, key1, key2):
        """ctr(q1, k2) + ctr(q2, k1) of a microbatch; what to keep; what to log."""
        (labels,), keys = rows, (unit_norm(key2), unit_norm(key1))  # [c]; 2 of [B, C]
        projections = [self._projections(encode, view) for view in images]  # q1, q2: [c, C]
        queries = [unit_norm(projection) for projection in projections]
        logits = [
            in_batch_logits(query, key, labels, self.temperature)
            for query, key in zip(queries, keys, strict=True)
        ]  # 2 of [c, B]
        losses = 2 * self.temperature * tf.stack([info_nce(each) for each in logits])  # [2, c]
        loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
        by_image = {"queries": tf.stack(projections, axis=1), "logits": tf.stack(logits, axis=1)}
        by_image["losses"] = tf.transpose(losses)
        scalars = contrast_scalars(
            tf.concat(logits, axis=0), tf.concat(queries, axis=0), self.temperature
        )
        return loss / self.envelope.microbatches, by_image, {"loss": loss} | scalars

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name."""
        networks = self.query.state("query_encoder") | self.key.state("key_encoder")
        return networks | self.envelope.optimizer.state()
