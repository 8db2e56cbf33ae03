"""The plain model of a functional backbone with a skip connection, as a file and in Python."""

import keras
import numpy as np
import pytest
from keras import layers
from support.encoder_files import TINY, normalized, pixels, save

import moco_tf
from moco_tf.exporting.command import export
from moco_tf.models.backbone import architecture_of, assign_arrays
from moco_tf.runs import snapshot
from moco_tf.runs.snapshot import QUERY_ENCODER

SIDE = TINY["image_size"]


@pytest.fixture(scope="module")
def model():
    """A convolution, and around its BatchNorm a skip connection."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    return keras.Model(inputs, layers.Add()([x, layers.BatchNormalization(epsilon=0.02)(x)]))


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """A file of an encoder of `model`, which gets its arrays."""
    fields = {"encoder": "model", "architecture": architecture_of(model, SIDE), "head": "linear"}
    path = save(tmp_path_factory.mktemp("plain") / "a.safetensors", **TINY | fields)
    state = snapshot.read_file(path).state
    assign_arrays(model, {name.removeprefix(QUERY_ENCODER): a for name, a in state.items()})
    return path


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("preprocessing", [False, True])
def test_a_functional_backbone_computes_what_the_users_model_does(
    run, model, tmp_path, head, preprocessing
):
    out = tmp_path / "encoder.keras"
    settings = {"with_head": head, "with_preprocessing": preprocessing}
    assert export(run, out, to="keras", **settings, warn=pytest.fail)["equal"]
    images = normalized(pixels(SIDE), "cifar10")
    wanted = model(images, training=False).numpy().mean(axis=(1, 2))
    if head:
        state = snapshot.read_file(run).state
        wanted = wanted @ state[f"{QUERY_ENCODER}fc/kernel"] + state[f"{QUERY_ENCODER}fc/bias"]
    given = pixels(SIDE) if preprocessing else images
    read = keras.saving.load_model(out)
    loaded = moco_tf.load_encoder(run, head=head, preprocessing=preprocessing)
    for found in (read, loaded):
        tolerance = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(found(given), wanted, rtol=1e-5, atol=tolerance)
