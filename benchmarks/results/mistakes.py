"""Known mistakes of MoCo implementations, put into the running package from outside.

MISTAKES: name -> what it patches; SETTINGS: name -> fields of the config that make it.
"""

import contextlib
from unittest import mock

import tensorflow as tf

import moco_tf.building
import moco_tf.building.batches
import moco_tf.building.method
import moco_tf.pretraining
from moco_tf.data.view_making import DeviceImages

SETTINGS = {
    "momentum_0": {"key_momentum": 0.0},
    "momentum_0.9": {"key_momentum": 0.9},
    "momentum_0.999": {"key_momentum": 0.999},
    "decay_twice": {"weight_decay": 1e-3},
    "crop_0.08": {"crop_min_area": 0.08},
    "queue_256": {"queue_size": 256},
    "queue_4096": {"queue_size": 4096},
    "queue_16384": {"queue_size": 16384},
    "group_4": {"group_size": 4},
    "group_64": {"group_size": 64},
}


def batch_draws():
    """One draw of crop, flip and colour for all images of a batch, still another for each view."""
    original = moco_tf.building.batches.views_of

    def drawn_once(images, making, order):
        if not isinstance(making, DeviceImages):
            raise SystemExit("batch_draws needs a small set of images of one size.")

        def first_for_all(view):
            places, draws = view
            return places, tf.tile(draws[:1], [tf.shape(draws)[0], 1])

        return original(images, making, order).map(
            lambda a, b: (first_for_all(a), first_for_all(b))
        )

    return mock.patch.object(moco_tf.building.batches, "views_of", drawn_once)


def no_shuffle():
    """The key encoder's groups are the query encoder's."""

    def in_order(seed, step, calls, batch_size):
        del seed, step
        return tf.tile(tf.range(batch_size)[None], [calls, 1])

    return mock.patch.object(moco_tf.building.method, "random_permutation", in_order)


@contextlib.contextmanager
def key_inference():
    """The key encoder normalises by its running statistics, which stay at their start."""
    with contextlib.ExitStack() as patches:
        for module in (moco_tf.building, moco_tf.pretraining):
            original = module.build_method
            patches.enter_context(
                mock.patch.object(
                    module, "build_method", lambda *a, build=original: _in_inference(build(*a))
                )
            )
        yield


def _in_inference(method):
    call = method.key.call

    def without_training(parameters, statistics, images, training):
        del training
        return call(parameters, statistics, images, training=False)

    method.key.call = without_training
    return method


def aliased_resize():
    """Bilinear without antialiasing: a filter that does not widen where a crop is shrunk."""
    from moco_tf.data.augment import crop

    def narrow(begin, length, size, side):
        place = tf.range(size, dtype=tf.float64) - tf.cast(begin, tf.float64)[:, None, None]
        length = tf.cast(length, tf.float64)[:, None, None]
        centre = (tf.range(side, dtype=tf.float64)[:, None] + 0.5) * length / side
        centre = tf.clip_by_value(centre, 0.5, length - 0.5)
        weight = tf.maximum(1 - tf.abs(place + 0.5 - centre), 0)
        weight = tf.where((place >= 0) & (place < length), weight, 0)
        return tf.cast(weight / tf.reduce_sum(weight, axis=-1, keepdims=True), tf.float32)

    return mock.patch.object(crop, "resize_weights", narrow)


MISTAKES = {
    "batch_draws": batch_draws,
    "no_shuffle": no_shuffle,
    "key_inference": key_inference,
    "aliased_resize": aliased_resize,
}
