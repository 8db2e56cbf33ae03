"""Shuffling: inverse, group composition, and independence of the number of replicas."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.methods.shuffle import random_permutation, shuffle, unshuffle
from moco_tf.training.accumulation import pick, replica_rows


@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_unshuffle_undoes_shuffle(layout, replicas):
    rows = replica_rows(16, 4, layout, replicas)
    permutation = random_permutation(5, 0, 1, 16)[0]
    images = tf.random.normal([16, 3])
    keys = tf.concat([pick(images, tf.gather(permutation, r)) for r in rows], axis=0)
    np.testing.assert_array_equal(unshuffle(keys, permutation, rows), images)


def test_the_whole_batch_needs_no_rows():
    order = [2, 0, 1]
    keys = shuffle(tf.constant([[1.0], [2.0], [3.0]]), order)
    np.testing.assert_array_equal(keys, [[3.0], [1.0], [2.0]])
    np.testing.assert_array_equal(unshuffle(keys, order), [[1.0], [2.0], [3.0]])


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_groups_hold_the_same_images_on_any_number_of_replicas(replicas):
    def groups(layout, count):
        rows = replica_rows(24, 6, layout, count)
        found = set()
        for local in rows:
            share = 4 // count  # groups on one replica
            parts = local.reshape(share, 6) if layout == "contiguous" else local.reshape(6, -1).T
            found |= {frozenset(part.tolist()) for part in parts}
        return found

    for layout in ("contiguous", "interleaved"):
        assert groups(layout, replicas) == groups(layout, 1)
    assert frozenset(range(0, 24, 4)) in groups("interleaved", replicas)


def test_permutations_are_a_function_of_seed_and_step():
    first = random_permutation(1, 7, 2, 64).numpy()
    np.testing.assert_array_equal(first, random_permutation(1, 7, 2, 64))
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(64), (2, 1)))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, random_permutation(1, 8, 2, 64))
    assert not np.array_equal(first, random_permutation(2, 7, 2, 64))
