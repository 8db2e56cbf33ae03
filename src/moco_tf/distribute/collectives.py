"""What the replicas of a step tell each other: called in each of them, the same result for all.

Legend: R replicas, b rows of each, B = R b.
"""

import functools

import tensorflow as tf

from moco_tf.distribute.words import as_words, from_words


def mean_over_replicas(nest):
    """In a replica: the mean of what each has, summed in the order of the replicas."""
    count = tf.distribute.get_replica_context().num_replicas_in_sync
    return _over_replicas(nest, lambda rows: sum_in_order(tf.unstack(rows)) / count)


def broadcast_from_first(nest):
    """In a replica: what the first one has."""
    return _over_replicas(nest, lambda rows: rows[0])


def _over_replicas(nest, combine):
    """A nest of `combine` of [R, n], in the order of the replicas, for each type of number."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return nest
    values = tf.nest.flatten(nest)
    result = [None] * len(values)
    for dtype in {value.dtype: None for value in values}:  # one exchange for all of a type
        indices = [place for place, value in enumerate(values) if value.dtype == dtype]
        packed = tf.concat([tf.reshape(values[place], [1, -1]) for place in indices], axis=1)
        rows = _all_gather(packed)
        combined = combine(tf.ensure_shape(rows, [context.num_replicas_in_sync, packed.shape[1]]))
        sizes = [values[place].shape.num_elements() for place in indices]
        for place, part in zip(indices, tf.split(combined, sizes), strict=True):
            result[place] = tf.reshape(part, values[place].shape)
    return tf.nest.pack_sequence_as(nest, result)


def gather_rows(nest):
    """In a replica: a nest of [b, ...] -> [B, ...], the rows of all replicas in their order."""
    return tf.nest.map_structure(_gather_rows, nest)


def _gather_rows(tensor):
    context = tf.distribute.get_replica_context()
    shape = [tensor.shape[0] * context.num_replicas_in_sync, *tensor.shape[1:]]
    if tensor.dtype != tf.uint8:
        return tf.ensure_shape(_all_gather(tensor), shape)
    words = as_words(tensor)
    all_words = tf.ensure_shape(_all_gather(words), [shape[0], words.shape[1]])
    return from_words(all_words, tensor.shape[1:])


def _all_gather(rows):
    # Without a gradient `all_gather` need not walk through all that the rows are made of.
    return tf.distribute.get_replica_context().all_gather(tf.stop_gradient(rows), axis=0)


def sum_in_order(tensors):
    """What AddN does not promise: it begins with whichever tensor it can write to."""
    return functools.reduce(tf.add, tensors)
