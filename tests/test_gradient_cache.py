"""The gradient cache: a batch in microbatches computes what it computes at once."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.runs import V3, config
from support.v3_networks import BATCH, build, networks, train, views

from moco_tf.building import build_method
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.models.architecture import to_text
from moco_tf.training.gradient_cache import encode_cached, gradient_cache
from moco_tf.training.network import seeds_for


def assert_near(found, wanted):
    """Within 1e-12 of the largest number of each tensor, or of 1 where all of it is rounding."""
    for ours, theirs in zip(*map(tf.nest.flatten, (found, wanted)), strict=True):
        largest = np.abs(theirs).max() if np.abs(theirs).max() > 1e-9 else 1.0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_function_has_the_features_and_gradients_of_the_whole_batch(compiled):
    """Images are a nest. No call is given more than a microbatch."""
    rng, called = np.random.default_rng(0), []
    images = {"a": tf.constant(rng.standard_normal((6, 3))), "b": tf.range(6)}
    parameters = [tf.constant(rng.standard_normal(shape)) for shape in ((3, 4), (4,))]
    weights = tf.constant(rng.standard_normal((6, 4)))

    def encode(parameters, images, row):
        called.append(images["a"].shape[0])
        number = tf.cast(images["b"], tf.float64)[:, None]
        return tf.tanh(images["a"] @ parameters[0] + parameters[1]) * number, [row + 5]

    def loss_of(features):
        together = tf.linalg.normalize(features, axis=0)[0]  # of all images
        return tf.reduce_sum(weights * together**3)

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            features, others = function(parameters)
            loss = loss_of(features)
        return [features, loss, others, tape.gradient(loss, parameters)]

    def in_parts(parameters):
        return encode_cached(encode, parameters, images, 3)

    step = tf.function(gradients) if compiled else gradients
    found, wanted = step(in_parts), gradients(lambda p: encode(p, images, tf.constant(0)))
    assert_near(found, wanted)
    assert set(called[:-1]) == {2} and found[0].shape == (6, 4)


@cache
def stepped(devices, microbatches):
    """Scalars and details of each step, and the state after the last."""
    compiled = microbatches > 1
    method = build(make_strategy(devices), microbatches, compile_parts=compiled)
    return train(method, tf.function if compiled else lambda step: step)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "microbatches"), [(1, 8), (2, 2)])
def test_steps_are_those_of_the_whole_batch(devices, microbatches):
    """Loss, gradients, the heads' running statistics and LARS's slots; of single images, too."""
    assert_near(stepped(devices, microbatches), stepped(devices, 1))
    assert_near(stepped(devices, microbatches)[1], stepped(1, 1)[1])


def test_both_passes_draw_the_same():
    """Each microbatch draws by its own seed: so does a twin, whose tape keeps everything."""
    encoder, _ = networks("vit", backbone_norm=False, dropout=0.5)
    model, backbone = encoder.model, encoder.backbone
    heads = keras.Model(backbone.outputs[0], model.outputs[0])
    fixed = [v.value for v in backbone.non_trainable_variables]
    (images, _), microbatches = views(0), 4

    def twin(parameters, statistics, images, training):
        by_name = dict(zip([v.path for v in model.trainable_variables], parameters, strict=True))
        features = []
        for row in range(0, BATCH, BATCH // microbatches):
            part, _ = backbone.stateless_call(
                [by_name[v.path] for v in backbone.trainable_variables],
                seeds_for(fixed, [True], row),
                images[row : row + BATCH // microbatches],
                training=True,
            )
            features.append(part)
        running = [v.value for v in heads.non_trainable_variables]
        own = [by_name[v.path] for v in heads.trainable_variables]
        return heads.stateless_call(own, running, tf.concat(features, axis=0), training=True)

    found, moved = [], []
    for call in (gradient_cache(encoder, microbatches, tf.identity), twin):
        parameters = [tf.constant(v.value) for v in model.trainable_variables]
        statistics = [v.value for v in model.non_trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            outputs, after = call(parameters, statistics, images, training=True)
            loss = tf.reduce_sum(outputs[:, 0] ** 3)
        found.append([outputs, tape.gradient(loss, parameters)])
        moved.append(after[0])
    assert_near(*found)
    np.testing.assert_array_equal(moved[0] - fixed[0], [0, 1])  # one draw more


def test_a_backbone_with_batch_norm_is_refused(data):
    """Of a Keras model that is known only when it is built."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    text = to_text(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))
    recipe, tiny = V3["resnet"]
    changes = {"encoder": "model", "width": 64, "stem": "imagenet", "accumulation_steps": 4}
    settings = config(data, "x", recipe, tiny | changes)
    settings = settings.model_copy(update={"architecture": text})
    with pytest.raises(InputError, match=r"encoder=model, for .* Use --group-size 4\.$"):
        build_method(settings, tf.distribute.get_strategy())
