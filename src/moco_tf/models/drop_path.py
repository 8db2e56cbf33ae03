"""Stochastic depth: in training a residual branch is left out for some of the images."""

import keras
import tensorflow as tf
from keras import ops


class DropPath(keras.layers.Layer):
    """Zeros for some images and `inputs / (1 - rate)` for the others: [b, ...] -> [b, ...].

    Which ones is a function of the seed, the step and an image's row in the global batch, so that
    any number of devices leaves out the same. Keras's Dropout draws for the images it is given.

    Args:
        rate: probability to be left out.
        batch_size: images in the global batch.
        seed: no other layer has it.

    Source: arXiv:1603.09382; each image by itself, as in DeiT.
    """

    def __init__(self, rate, *, batch_size, seed, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.batch_size, self.seed = rate, batch_size, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        place, step = tf.unstack(self.seed_generator.next())  # `Network.drawing_for` adds the row
        draws = tf.random.stateless_uniform(
            [self.batch_size], tf.stack([tf.constant(self.seed, step.dtype), step]), alg="philox"
        )
        rows = tf.range(tf.shape(inputs)[0]) + tf.cast(place - self.seed, tf.int32)
        kept = tf.cast(tf.gather(draws, rows) >= self.rate, inputs.dtype)
        return inputs * ops.reshape(kept / (1 - self.rate), [-1] + [1] * (len(inputs.shape) - 1))

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
