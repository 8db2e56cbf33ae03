"""Features: unit rows in the order of the images, one trace, inference mode."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.data.sources import from_arrays
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding, extract, pixel_features
from moco_tf.models import build_encoder


def images_of(count, size=4):
    generator = np.random.default_rng(count)
    return generator.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("count", "batch"), [(10, 4), (8, 4), (3, 4)])
def test_unit_rows_in_order_with_one_trace(count, batch, compiled):
    images, traces = images_of(count), []

    def flatten(x):
        traces.append(x.shape)
        return tf.reshape(tf.cast(x, tf.float32), [x.shape[0], -1])

    function = tf.function(flatten, autograph=False) if compiled else flatten
    batches = tf.data.Dataset.from_tensor_slices(images).batch(batch)
    found = extract(function, batches)
    flat = images.reshape(count, -1).astype(np.float64)
    np.testing.assert_allclose(
        found, flat / np.linalg.norm(flat, axis=1, keepdims=True), rtol=0, atol=1e-6
    )
    assert found.dtype == np.float32 and len(traces) == 1
    extract(function, batches)
    assert len(traces) == (1 if compiled else 2)


def test_features_of_many_encoders_are_no_retracing(caplog):
    """TensorFlow warns of five traces in a row, and by what a function is counts whose they are."""
    with caplog.at_level("WARNING", "tensorflow"):
        for number in range(8):
            model = lambda x, training, by=number: by * tf.reshape(x, [1, -1])  # noqa: E731
            encoder = SimpleNamespace(projection=model, backbone=None)
            embed = embedding(encoder, features="projection", normalization="none")
            np.testing.assert_allclose(embed(np.full((1, 2, 2, 3), 255, np.uint8)), number)
    assert "retracing" not in caplog.text


def test_zero_features_stay_finite_and_no_images_are_an_error():
    zeros = extract(lambda x: tf.zeros([x.shape[0], 3]), [np.zeros((2, 4, 4, 3), np.uint8)])
    np.testing.assert_array_equal(zeros, np.zeros((2, 3)))
    with pytest.raises(InputError, match="no images"):
        extract(lambda x: x, [])


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(
        "resnet18", image_size=8, stem="small", width=4, head="linear", dim=6, group_size=2,
        group_layout="contiguous", running_statistics="first_group", dtype="float32", seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("features", "size"), [("projection", 6), ("pooled", 32)])
def test_embedding_is_in_inference_mode(encoder, features, size):
    before = [variable.numpy() for variable in encoder.model.variables]
    embed = embedding(encoder, features=features, normalization="cifar10")
    images = images_of(6, size=8)
    together, alone = embed(images), embed(images[:2])
    assert together.shape == (6, size) and together.dtype == tf.float32
    np.testing.assert_allclose(together[:2], alone, rtol=0, atol=1e-5)  # no batch statistics
    for variable, value in zip(encoder.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_embedding_names_the_features_it_knows(encoder):
    with pytest.raises(InputError, match=r"projection, pooled; received features='logits'"):
        embedding(encoder, features="logits", normalization="none")


def test_pixel_features_by_hand():
    pixels = images_of(7)
    images = from_arrays("pixels", pixels)
    bank, mean = pixel_features(images, np.arange(5), 4, batch_size=2)
    flat = pixels.reshape(7, -1).astype(np.float64)
    np.testing.assert_allclose(mean, flat[:5].mean(axis=0), rtol=1e-6)
    queries, same = pixel_features(images, np.array([6, 5]), 4, mean=mean)
    assert same is mean
    for found, rows in ((bank, flat[:5]), (queries, flat[[6, 5]])):
        centred = rows - flat[:5].mean(axis=0)
        wanted = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
