"""A device's images in microbatches, one after another: activations of one at a time.

Legend: B images in the global batch, R replicas, b = B / R images of a replica, c of a microbatch.
"""

import numpy as np
import tensorflow as tf

from moco_tf.distribute.words import as_words, from_words
from moco_tf.names.encoder import ALL


def in_microbatches(function, rows, how):
    """Returns what `function` gives for all rows, calling it with one microbatch after another.

    Nothing of a microbatch but its results is kept, and the next one starts when they are there.

    Args:
        function: row numbers [c] -> dict of tensors, or of nests of them.
        rows: [microbatches, c].
        how: for each name of that dict, what the microbatches make together: "rows" ([c, ...] ->
            [b, ...], in the order of `rows`), "sum", "mean", or "first" (what the first microbatch
            gives). Sums are in the order of the microbatches.
    """
    microbatches = rows.shape[0]
    if microbatches == 1:
        return function(rows[0])
    one_microbatch = tf.function(function, autograph=False)
    spec = one_microbatch.get_concrete_function(tf.TensorSpec(rows.shape[1:], rows.dtype))

    def rule(name, value):
        return "first" if how[name] == "mean" and value.dtype.is_integer else how[name]

    def start(name, value):
        if how[name] == "rows":
            return tf.TensorArray(value.dtype, microbatches, element_shape=value.shape)
        return tf.zeros(value.shape, value.dtype)

    def add(index, name, so_far, value):
        if how[name] == "rows":
            return so_far.write(index, value)
        if rule(name, value) == "first":
            return tf.where(index == 0, value, so_far)
        return so_far + value

    def finish(name, value):
        if how[name] == "rows":
            return value.concat()
        return value / microbatches if rule(name, value) == "mean" else value

    def each(step, *results):
        return {
            name: tf.nest.map_structure(lambda *values, n=name: step(n, *values), *nests)
            for name, *nests in ((name, *(result[name] for result in results)) for name in how)
        }

    def body(index, so_far):
        new = one_microbatch(rows[index])
        return index + 1, each(lambda *values: add(index, *values), so_far, new)

    # One iteration at a time: nothing else would keep the executor from beginning them all.
    _, results = tf.while_loop(
        lambda index, _: index < microbatches,
        body,
        (tf.constant(0), each(start, spec.structured_outputs)),
        parallel_iterations=1,
    )
    return each(finish, results)


def pick(images, rows):
    """Rows [b] of a batch: a tensor [B, ...], or a nest of such tensors."""
    return tf.nest.map_structure(lambda tensor: _gathered(tensor, rows), images)


def _gathered(tensor, rows):
    if tensor.dtype != tf.uint8:
        return tf.gather(tensor, rows)
    return from_words(tf.gather(as_words(tensor), rows), tensor.shape[1:])


def replica_rows(batch_size, group_size, layout, replicas):
    """Rows of the global batch that each replica encodes, in its own order: int32 array [R, b].

    Contiguous groups go to the replicas in order. Interleaved groups too: replica r gets the
    groups r G/R to (r + 1) G/R - 1, again interleaved, so that no image changes its group.
    """
    if layout == "contiguous" or group_size == ALL:
        return np.arange(batch_size, dtype=np.int32).reshape(replicas, -1)
    by_group = np.arange(batch_size, dtype=np.int32).reshape(group_size, replicas, -1)
    return by_group.transpose(1, 0, 2).reshape(replicas, -1)
