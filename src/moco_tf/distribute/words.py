"""Rows of bytes as rows of int64: neither collectives nor a GPU's gather take uint8."""

import tensorflow as tf


def as_words(rows):
    """uint8 [n, ...] -> int64 [n, w]: eight bytes each, the last ones filled up with zeros."""
    flat = tf.reshape(rows, [rows.shape[0], -1])
    short = -flat.shape[1] % 8
    flat = tf.pad(flat, [[0, 0], [0, short]]) if short else flat
    return tf.bitcast(tf.reshape(flat, [rows.shape[0], -1, 8]), tf.int64)


def from_words(words, shape):
    """int64 [n, w] -> uint8 [n, *shape]."""
    count = words.shape[0]
    numbers = tf.reshape(tf.bitcast(words, tf.uint8), [count, -1])
    return tf.reshape(numbers[:, : shape.num_elements()], [count, *shape])
