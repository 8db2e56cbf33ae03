"""Random layers in a step: what they draw belongs to the microbatch, wherever that is computed."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from support.steps import BATCH, GROUP, SIZE, build, views

from moco_tf.methods.shuffle import random_permutation
from moco_tf.models.architecture import to_text
from moco_tf.models.backbone import keras_encoder


@pytest.fixture(scope="module")
def encoder():
    """Makes encoders of a CNN with Dropout and, as in EfficientNet, DropPath."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, strides=3)(images))
    branch = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = x + layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(branch)
    features = layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(x))
    return partial(
        keras_encoder,
        to_text(keras.Model(images, features)),
        image_size=SIZE,
        head="linear",
        dim=16,
        group_size=GROUP,
        group_layout="contiguous",
        running_statistics="mean",
        dtype="float64",
    )


def after_a_step(encoder, devices, microbatches):
    """The state after a symmetric step: each encoder draws for two batches."""
    method = build(
        devices,
        rule="mean",
        symmetric=True,
        encoder=encoder,
        accumulation_steps=microbatches,
        preprocess=lambda images: tf.cast(images, tf.float64),
        dtype="float64",
    )
    tf.function(method.train_step)(*views(0), random_permutation(0, 0, 2, BATCH), tf.constant(0.1))
    return {name: variable.numpy() for name, variable in method.state().items()}


@pytest.mark.slow
@pytest.mark.parametrize(("one", "several"), [((1, 2), (2, 1)), ((1, 4), (2, 2))])
def test_devices_draw_what_one_device_draws_for_the_same_microbatches(encoder, one, several):
    wanted, found = after_a_step(encoder, *one), after_a_step(encoder, *several)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
