"""MoCo in a training loop of your own, on drawn shapes: python examples/custom_loop.py

Encoder, data and loop are plain Keras and TensorFlow; only MoCo's own parts are imported.
"""

import keras
import tensorflow as tf

import moco_tf.functional as moco
from moco_tf.data.shapes import draw_shapes
from moco_tf.layers import GroupBatchNorm

SGD = {"momentum": 0.9, "weight_decay": 1e-4}


def encoder(dim=64, group_size=16):
    """Any Keras model that ends in `dim` features; `group_size`: images on a GPU of the paper."""
    x = images = keras.Input([32, 32, 3])
    for width in (16, 32, 64):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(GroupBatchNorm(group_size)(x))
    return keras.Model(images, keras.layers.Dense(dim)(keras.layers.GlobalAveragePooling2D()(x)))


def make_step(query, key, queue, pointer, buffers, *, momentum, temperature):
    """Returns one training step (arXiv:1911.05722, Algorithm 1) of two encoders with equal weights.

    It changes them, queue [K, C], pointer and `buffers`, SGD's for each weight of `query`.
    """

    @tf.function
    def step(view1, view2, permutation, rate):
        weights = query.trainable_variables
        for slow, fast in zip(key.trainable_variables, weights, strict=True):
            slow.assign(moco.momentum_update(slow, fast, momentum))  # equation 2
        keys = key(moco.shuffle(view2, permutation), training=True)  # ShuffleBN, section 3.3
        keys = moco.unit_norm(moco.unshuffle(keys, permutation))  # [B, C]
        with tf.GradientTape() as tape:
            queries = moco.unit_norm(query(view1, training=True))  # [B, C]
            logits = moco.queue_logits(queries, keys, queue, temperature)  # [B, 1 + K]
            loss = tf.reduce_mean(moco.info_nce(logits))  # equation 1
        gradients = tape.gradient(loss, weights)
        for weight, buffer, gradient in zip(weights, buffers, gradients, strict=True):
            new_weight, new_buffer = moco.sgd_update(weight, buffer, gradient, rate, **SGD)
            weight.assign(new_weight)
            buffer.assign(new_buffer)
        new_queue, new_pointer = moco.enqueue(queue, pointer, keys)  # section 3.1
        queue.assign(new_queue)
        pointer.assign(new_pointer)
        return loss, logits

    return step


def main(steps=100, batch_size=64, queue_size=1024, seed=0):
    """Trains on 1,024 shapes and prints losses and accuracies."""
    keras.utils.set_random_seed(seed)
    query, key = encoder(), encoder()
    key.set_weights(query.get_weights())
    queue = tf.Variable(moco.initial_queue(queue_size, query.output.shape[1], seed))
    pointer = tf.Variable(0, dtype=tf.int64)
    buffers = [tf.Variable(tf.zeros_like(weight)) for weight in query.trainable_variables]
    step = make_step(query, key, queue, pointer, buffers, momentum=0.99, temperature=0.2)
    images = draw_shapes(seed, range(1024))[0].astype("float32") / 255
    batches = tf.data.Dataset.from_tensor_slices(images).shuffle(1024, seed=seed).repeat()
    zoom = keras.layers.RandomZoom((-0.5, 0.0))
    jitter = keras.layers.RandomColorJitter((0, 1), 0.4, 0.4, 0.4, 0.1)
    for number, batch in enumerate(batches.batch(batch_size).take(steps)):
        view1, view2 = jitter(zoom(batch)), jitter(zoom(batch))
        order = moco.random_permutation(seed, number, 1, batch_size)[0]
        rate = moco.learning_rate(number, base=0.06, steps_per_epoch=1, epochs=steps)
        loss, logits = step(view1, view2, order, tf.constant(rate))
        if number % 10 == 9:
            top1 = moco.top_k_accuracy(logits, 1)
            print(f"step {number + 1}  loss {loss:.3f}  top1 {top1:.1f}%  rate {rate:.4f}")


if __name__ == "__main__":
    main()
