"""The ring against a list that is written one key at a time."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.methods.queue import enqueue, initial_queue


@pytest.mark.parametrize(("size", "batch"), [(8, 4), (7, 3), (5, 5), (4, 6), (3, 8)])
def test_enqueue_matches_writing_one_by_one(size, batch):
    queue, pointer = tf.zeros([size, 2]), tf.constant(0, tf.int64)
    ring, at = np.zeros((size, 2)), 0
    for step in range(6):
        keys = np.arange(batch * 2).reshape(batch, 2) + 100.0 * step
        queue, pointer = enqueue(queue, pointer, tf.constant(keys, tf.float32))
        for key in keys:
            ring[at] = key
            at = (at + 1) % size
        np.testing.assert_array_equal(queue, ring)
        assert int(pointer) == at


def test_initial_queue_has_unit_rows_and_depends_on_the_seed():
    queue = initial_queue(50, 16, seed=3)
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-6)
    assert abs(queue.mean()) < 0.02
    assert not np.array_equal(queue, initial_queue(50, 16, seed=4))
    np.testing.assert_array_equal(queue, initial_queue(50, 16, seed=3))
