"""Stochastic depth: how often, how it scales, and that devices agree."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models.drop_path import DropPath


def layer(batch_size=6, rate=0.25, seed=11):
    made = DropPath(rate, batch_size=batch_size, seed=seed, dtype="float64")
    made.build((None, 2, 3))
    return made


def call(made, inputs, row, step):
    """In training, on rows of the batch from `row` on, at a step: as `Network` has it called."""
    state = [tf.constant([made.seed + row, step], tf.int64)]
    outputs, (state,) = made.stateless_call([], state, inputs, training=True)
    assert state.numpy().tolist() == [made.seed + row, step + 1]
    return outputs.numpy()


def test_an_image_is_dropped_or_scaled_as_a_whole_and_inference_is_the_identity():
    made, inputs = layer(batch_size=96), tf.ones([96, 2, 3], tf.float64)
    np.testing.assert_array_equal(made(inputs), inputs)
    kept = np.stack([call(made, inputs, 0, step) for step in range(60)])  # [steps, 96, 2, 3]
    first = kept[:, :, :1, :1]
    np.testing.assert_array_equal(kept, np.broadcast_to(first, kept.shape))
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75])
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.03)
    assert len({tuple(step.ravel()) for step in first}) == 60  # not the same images


def test_rows_are_those_of_the_global_batch_wherever_it_is_cut():
    made = layer()
    inputs = tf.random.stateless_normal([6, 2, 3], [1, 2], dtype=tf.float64)
    whole = call(made, inputs, 0, 4)
    parts = [call(made, inputs[start:stop], start, 4) for start, stop in ((0, 2), (2, 6))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (call(layer(seed=12), inputs, 0, 4) != whole).any()
