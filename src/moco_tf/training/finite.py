"""Where in a step numbers stop being finite: counted on the device, told afterwards by name.

A step goes through images, parameters, keys, queries, logits and the loss to the gradients; what is
not finite in one place is not finite in most that follow, so that the first is where it began.
"""

import tensorflow as tf

IMAGES = "the normalised images"
PLACES = ("images", "keys", "queries", "logits", "loss")


def nonfinite(**values):
    """Returns counts, float32 [5], in the order of PLACES: 1 where a value is not finite.

    Counts of parts of a batch, and of what is done to it one after another, may be added up.

    Args:
        values: a tensor, or several, for some of PLACES.
    """
    return tf.stack([_one_if_not(all_finite(values[n])) if n in values else 0.0 for n in PLACES])


def all_finite(value):
    """Whether nothing in a tensor, or in several, is NaN or infinite: a bool scalar."""
    finite = _each_finite(tf.nest.flatten(value))
    return finite[0] if len(finite) == 1 else tf.reduce_all(finite)


def _each_finite(tensors):
    """A bool scalar for each tensor."""
    return [tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors]


def _one_if_not(finite):
    return 1 - tf.cast(finite, tf.float32)


def first_nonfinite(counts_before, parameters, gradients):
    """Returns where it began, as a number of `names_of_tensors`, an int64 scalar: 0 if nowhere.

    Args:
        counts_before: counts of `nonfinite`, [5], of the whole batch.
        parameters, gradients: tensors of the query encoder, before the step.
    """
    before, after = (_one_if_not(tf.stack(_each_finite(each))) for each in (parameters, gradients))
    counts = tf.concat([counts_before[:1], before, counts_before[1:], after], axis=0)
    first = tf.argmax(counts > 0)
    return tf.where(counts[first] > 0, first + 1, 0)


def names_of_tensors(parameters):
    """Returns what the numbers of `first_nonfinite` mean, from 1 on.

    Args:
        parameters: names, in the order of their tensors.
    """
    return [
        IMAGES,
        *(f"the parameter {name}" for name in parameters),
        "the features of the keys",
        "the features of the queries",
        "the logits",  # of finite features: the queue
        "the loss",
        *(f"the gradient of {name}" for name in parameters),
    ]
