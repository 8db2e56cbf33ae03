"""keras.applications as backbones: pixels from 0 to 255, and BatchNorm in groups."""

import json
import sys

import keras
import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.models.applications import application
from moco_tf.models.array_names import array_names, within
from moco_tf.models.backbone import (
    BODY,
    architecture_of,
    arrays_of,
    assign_arrays,
    keras_encoder,
    preprocesses,
)
from moco_tf.models.batch_norm import GroupBatchNorm

pytestmark = pytest.mark.slow
SIDE = 32


def pixels(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["MobileNet", "VGG16"])
def test_the_documented_preprocessing_is_put_in_front(name):
    """Of MobileNet -1 to 1; of VGG16 blue, green, red less the means of ImageNet."""
    model = application(name, image_size=SIDE, pretrained=False)
    assert preprocesses(model)
    prepare = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    inner = model.layers[-1]
    wanted = inner(prepare(pixels(2).copy()), training=False)
    found = model(pixels(2), training=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_an_application_that_takes_no_such_images_is_refused():
    with pytest.raises(InputError, match="encoder=keras:Xception does not take image_size=32: "):
        application("Xception", image_size=SIDE, pretrained=False)


def test_weights_that_cannot_be_downloaded_are_told_in_one_line(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    monkeypatch.setenv("KERAS_HOME", "/nowhere")
    with pytest.raises(InputError, match=r"^pretrained: the weights of keras:MobileNet .*network"):
        application("MobileNet", image_size=SIDE, pretrained=True)


@pytest.mark.parametrize("name", ["ConvNeXtTiny", "MobileNetV3Small"])
def test_applications_come_back_from_their_text(name):
    """`architecture_of` compares the features of the model and of the one from the text."""
    model = application(name, image_size=SIDE, pretrained=False)
    text = architecture_of(model, SIDE)
    assert preprocesses(model)
    assert len(set(array_names(model))) == len(model.variables)
    assert '"class_name":"Lambda"' not in text


def test_batch_norm_inside_efficientnet_is_the_model_run_group_by_group():
    """EfficientNetV2B0 in training mode, DropPath's rate 0, two groups of four."""
    model = application("EfficientNetV2B0", image_size=SIDE, pretrained=False)
    for layer in within(model):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    text = architecture_of(model, SIDE)
    assert json.loads(text)["class_name"] == "Functional"
    settings = {"head": "none", "dim": 2, "group_size": 4, "group_layout": "contiguous"}
    encoder = keras_encoder(
        text, image_size=SIDE, running_statistics="first_group", dtype="float64", **settings
    )
    assign_arrays(encoder.backbone.get_layer(BODY), arrays_of(model))
    found = encoder.backbone(pixels(8), training=True)
    twin = keras.saving.deserialize_keras_object(_in_float64(json.loads(text)))
    assign_arrays(twin, arrays_of(model))
    wanted = [twin(pixels(8)[:4], training=True)]
    first = arrays_of(twin)
    wanted.append(twin(pixels(8)[4:], training=True))
    wanted = np.concatenate(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    norms = [one for one in within(encoder.backbone) if isinstance(one, GroupBatchNorm)]
    assert len(norms) > 40
    moved = arrays_of(encoder.backbone.get_layer(BODY))
    for name in [name for name in moved if name.endswith("moving_mean")]:
        np.testing.assert_allclose(moved[name], first[name], rtol=1e-9, atol=1e-9, err_msg=name)


def _in_float64(tree):
    if isinstance(tree, dict):
        tree = {name: _in_float64(value) for name, value in tree.items()}
        return tree | ({"dtype": "float64"} if "dtype" in tree else {})
    return [_in_float64(value) for value in tree] if isinstance(tree, list) else tree
