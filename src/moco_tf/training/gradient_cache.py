"""A batch of any size through a backbone and back, in the memory of a microbatch.

The backbone encodes one microbatch after another, and keeps nothing but features. Heads and loss
take the features of the whole batch. When the gradient of the features is there, the backbone
encodes each microbatch again and takes its rows of that gradient back to the parameters. Where an
image's features do not depend on the other images, this is the gradient of the whole batch, but for
rounding.

Source: arXiv:2101.06983, section 3.

Legend: b images of a replica, c of a microbatch, D features.
"""

from itertools import compress

import keras
import tensorflow as tf

from moco_tf.models.array_names import SEED
from moco_tf.training.accumulation import in_microbatches, pick
from moco_tf.training.network import seeds_for


def encode_cached(encode, parameters, images, microbatches):
    """Returns what `encode` gives of all images, with gradients, calling it with microbatches.

    Args:
        encode: (parameters, images [c, ...], row) -> (features [c, D], others). It is called twice
            with each microbatch, whose first image is row `row`, and must give the same.
        parameters: tensors, which get gradients.
        images: [b, ...], or a nest of such tensors, which get none.
        microbatches: how many of equal size to make of them.

    Returns:
        Features [b, D], and the others of the first microbatch, without gradients.
    """
    count = tf.nest.flatten(images)[0].shape[0]
    rows = tf.reshape(tf.range(count), [microbatches, -1])

    @tf.custom_gradient
    def features_of_all(*tensors):
        parameters = [tf.stop_gradient(tensor) for tensor in tensors]  # no tape looks inside

        def forward(rows):
            features, others = encode(parameters, pick(images, rows), rows[0])
            return {"features": features, "others": others}

        def backward(upstream, *_):
            def of_microbatch(rows):
                share = tf.gather(upstream, rows)
                with tf.control_dependencies([share]):  # or it would begin before its turn
                    again = pick(images, rows)
                with tf.GradientTape() as tape:
                    tape.watch(parameters)
                    features, _ = encode(parameters, again, rows[0])
                return {"gradients": tape.gradient(features, parameters, share)}

            return in_microbatches(of_microbatch, rows, {"gradients": "sum"})["gradients"]

        found = in_microbatches(forward, rows, {"features": "rows", "others": "first"})
        features = found["features"]
        features = tf.ensure_shape(features, [count, *features.shape[1:]])
        return (features, found["others"]), backward

    return features_of_all(*parameters)


def gradient_cache(encoder, microbatches, preprocess, call=None):
    """Returns a function that is called as `encoder.model.stateless_call` is, and gives the same.

    Args:
        encoder: an `Encoder` whose backbone has no BatchNorm in training.
        microbatches: how many the images are made.
        preprocess: images as they arrive, which the function takes -> the backbone's input.
        call: gives what `encoder.backbone.stateless_call` gives; none: that itself.
    """
    model, backbone = encoder.model, encoder.backbone
    heads = keras.Model(backbone.outputs[0], model.outputs[0])
    running = heads.non_trainable_variables
    call = call or backbone.stateless_call
    fixed = backbone.non_trainable_variables  # but for the seeds of Dropout and its like
    seeds = [variable.name == SEED for variable in fixed]

    def encode(parameters, statistics, images, training):
        values = _by_variable(model.trainable_variables, parameters)
        values |= _by_variable(model.non_trainable_variables, statistics)
        constants = _of(fixed, values)

        def features_of(parameters, images, row):
            # Copies in the graph of a microbatch, of which `recompute_grad` may return some.
            before = [tf.identity(value) for value in seeds_for(constants, seeds, row)]
            features, after = call(parameters, before, preprocess(images), training=training)
            return features, list(compress(after, seeds))

        own = _of(backbone.trainable_variables, values)
        features, moved = encode_cached(features_of, own, images, microbatches)
        values |= _by_variable(compress(fixed, seeds), moved)
        own = [_of(each, values) for each in (heads.trainable_variables, running)]
        outputs, after = heads.stateless_call(*own, features, training=training)
        values |= _by_variable(running, after)
        return outputs, _of(model.non_trainable_variables, values)

    return encode


def _by_variable(variables, values):
    return {id(variable): value for variable, value in zip(variables, values, strict=True)}


def _of(variables, values):
    return [values[id(variable)] for variable in variables]
