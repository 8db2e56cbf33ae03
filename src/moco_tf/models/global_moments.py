"""Mean and variance over the images of all replicas, with gradients through both.

Legend: R replicas, C channels.
"""

import functools

import tensorflow as tf


def global_moments(values, axes):
    """In a replica: mean and biased variance [C] over `axes` of the values of all replicas.

    Each replica has as many values as the others. The variance is that within the replicas plus
    that of their means; a mean of squares would lose digits. Sums are in the order of the replicas,
    so that all of them get the same bits.

    No part of a step that calls it may be a tf.function of its own, because replicas meet here.
    """
    own = tf.stack(tf.nn.moments(values, axes))[None]  # [1, 2, C]
    means, variances = tf.unstack(_gather(own), axis=1)  # [R, C]
    mean = _mean_in_order(means)
    return mean, _mean_in_order(variances + tf.square(means - mean))


def replicas() -> int:
    """How many replicas the caller is one of."""
    return tf.distribute.get_replica_context().num_replicas_in_sync


@tf.custom_gradient
def _gather(own):
    """Rows [1, ...] of all replicas, [R, ...]; the gradient is summed over the replicas' uses."""

    def gradient(upstream):
        uses = _all_gather(upstream[None])  # [R, R, ...]: by each replica of each row
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return _sum_in_order(tf.gather(uses, place, axis=1))[None]

    return _all_gather(own), gradient


def _all_gather(rows):
    # `custom_gradient`, of which `all_gather` has one too, looks for variables in all that its
    # result is made of. At a stop_gradient it turns back, or it would walk through the whole of the
    # other replicas' networks, in a time that grows with the square of their size.
    rows = tf.stop_gradient(rows)
    gathered = tf.distribute.get_replica_context().all_gather(rows, axis=0)
    return tf.ensure_shape(gathered, [replicas(), *rows.shape[1:]])


def _sum_in_order(rows):
    return functools.reduce(tf.add, tf.unstack(rows))


def _mean_in_order(rows):
    return _sum_in_order(rows) / rows.shape[0]
