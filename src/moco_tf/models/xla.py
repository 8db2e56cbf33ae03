"""What XLA compiles to one pass over memory, and the precision inside it."""

from functools import partial

import keras
import tensorflow as tf

compiled = partial(tf.function, jit_compile=True, autograph=False)


def exact(x):
    """In float32, or in float64 if it is."""
    return tf.cast(x, keras.backend.result_type(x.dtype.name, "float32"))


def is_half(dtype):
    """Whether this name of a dtype is one of 16 bits."""
    return dtype in ("bfloat16", "float16")
