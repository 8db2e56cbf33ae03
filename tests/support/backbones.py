"""Keras models of other people: small ones, each with something of its own."""

import keras
from keras import layers

SIDE = 16


def sequential(drop=0.0, width=6):
    """A Keras CNN with a model inside it, BatchNorm in both, that ends in a feature map."""
    inner = [layers.BatchNormalization(momentum=0.8, scale=False), layers.ReLU()]
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(width, 3, strides=2, use_bias=False),
            layers.BatchNormalization(epsilon=1e-2, synchronized=True),
            layers.ReLU(),
            layers.Dropout(drop),
            keras.Sequential([layers.Conv2D(width, 3, strides=2, use_bias=False), *inner]),
        ]
    )


def functional():
    """A model of images of one size, with preprocessing of its own, that ends in features."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.BatchNormalization(axis=1)(x + 1.0)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


@keras.saving.register_keras_serializable(package="test")
class Subclassed(keras.Model):
    """Without BatchNorm, in code."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.patches = layers.Conv2D(width, 4, 4)
        self.norm = layers.LayerNormalization()
        self.drop = layers.Dropout(0.5)

    def call(self, images, training=None):
        return self.drop(self.norm(self.patches(images)), training=training)

    def get_config(self):
        return super().get_config() | {"width": self.width}


@keras.saving.register_keras_serializable(package="test")
class Hiding(layers.Layer):
    """A layer with BatchNorm inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization()

    def call(self, images, training=None):
        return self.norm(images, training=training)


@keras.saving.register_keras_serializable(package="test")
class Forgetful(Subclassed):
    """Its get_config leaves out what it was made with."""

    def __init__(self, width=3, **kwargs):
        super().__init__(width, **kwargs)

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable(package="test")
class Counting(layers.Layer):
    """A layer that changes a weight of its own in training."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, images, training=None):
        if training:
            self.calls.assign(self.calls + 1)
        return images


def around(*inner, head=()):
    """A model of the layers `inner`, which begins with a convolution."""
    first = [keras.Input((None, None, 3)), layers.Conv2D(4, 3)]
    return keras.Sequential([*first, *inner, *head])
