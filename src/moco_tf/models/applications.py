"""keras.applications as backbones that take pixels from 0 to 255, whatever each was trained on."""

import sys
import warnings

import keras
import numpy as np

from moco_tf.errors import InputError


def application(name: str, *, image_size: int, pretrained: bool) -> keras.Model:
    """Returns the application without its classifier: pixels 0 to 255, RGB, to features [b, D].

    What its documented `preprocess_input` does is put in front, where the model does not do it.

    Args:
        pretrained: with Keras's weights of ImageNet, which are downloaded once.

    Raises:
        InputError: if it does not take images of this size, or the weights cannot be had.
    """
    make = getattr(keras.applications, name)
    shape = (image_size, image_size, 3)
    settings = {"include_top": False, "pooling": "avg", "input_shape": shape}
    try:
        model = make(weights=None, **settings)
    except ValueError as error:
        raise InputError(
            f"encoder=keras:{name} does not take image_size={image_size}: {_line(error)}"
        ) from None
    if pretrained:
        try:
            with warnings.catch_warnings():  # that the weights were made for another image size
                warnings.simplefilter("ignore")
                model = make(weights="imagenet", **settings)
        except Exception as error:  # of urllib, or get_file's own
            raise InputError(
                f"pretrained: the weights of keras:{name} cannot be had ({_line(error)}). Connect "
                f"to the network once, or leave --pretrained out."
            ) from None
    matrix, offset = _affine(sys.modules[make.__module__].preprocess_input)
    if np.array_equal(matrix, np.eye(3)) and not offset.any():
        return model
    inputs = x = keras.Input(shape, name="pixels")
    if matrix[0, 2]:  # red and blue change places
        x = keras.ops.flip(x, axis=-1)
        matrix = matrix[:, ::-1]
    scale, offset = np.diag(matrix).tolist(), offset.tolist()
    x = keras.layers.Rescaling(scale, offset, name="preprocess")(x)
    return keras.Model(inputs, model(x), name=model.name)


def _affine(preprocess):
    """(matrix [out, in], offset [out]) of a function of pixels that is linear but for an offset."""
    pixels = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])
    found = np.asarray(preprocess(pixels[:, None, None].copy())).reshape(4, 3)
    return (found[1:] - found[0]).T / 255, found[0]


def _line(error):
    return " ".join(str(error).split())[:300]
