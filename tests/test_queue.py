"""The ring against a list that is written one key at a time."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.methods.queue import (
    NO_IMAGE,
    SUPERSEDED,
    enqueue,
    enqueue_images,
    initial_queue,
    same_image,
)


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


@pytest.mark.parametrize(
    ("size", "batch", "images"), [(8, 4, 9), (7, 3, 5), (12, 4, 40), (6, 6, 8), (4, 6, 8)]
)
def test_the_images_of_the_keys_match_a_list_of_what_was_written(size, batch, images):
    """The newest key of an image is of that image, all its earlier ones are superseded."""
    rng = np.random.default_rng(size)
    found, pointer = tf.fill([size], tf.cast(NO_IMAGE, tf.int64)), tf.constant(0, tf.int64)
    written = []  # (image, step) of every key there ever was
    for step in range(9):
        drawn, whole = rng.permutation(images)[:batch], rng.random(batch) < 0.8
        whole |= batch > size  # else which of two keys a row keeps would be a matter of order
        found = enqueue_images(found, pointer, tf.constant(drawn), tf.constant(whole))
        pointer += batch
        for image, is_written in zip(drawn, whole, strict=True):
            # What is not written leaves the key that was there in its place.
            written.append((image, step) if is_written else written_at(written, size))
        newest = dict(sorted(written, key=lambda key: key[1]))
        expected = [NO_IMAGE] * size
        for place, (image, when) in enumerate(written):
            old = image != NO_IMAGE and newest[image] > when
            expected[place % size] = SUPERSEDED if old else image
        np.testing.assert_array_equal(found, expected)
        hidden = same_image(tf.constant(drawn), found).numpy()
        naive = [[held in (image, SUPERSEDED) for held in expected] for image in drawn]
        np.testing.assert_array_equal(hidden, naive)


def written_at(written, size):
    """(image, step) of the key that the next one would overwrite."""
    return written[-size] if len(written) >= size else (NO_IMAGE, -1)


def test_an_image_that_is_twice_in_a_batch_keeps_both_keys():
    start = tf.constant([5, 7, NO_IMAGE, NO_IMAGE, 5], tf.int64)
    new = enqueue_images(start, tf.constant(2, tf.int64), tf.constant([5, 5], tf.int64))
    np.testing.assert_array_equal(new, [SUPERSEDED, 7, 5, 5, SUPERSEDED])
