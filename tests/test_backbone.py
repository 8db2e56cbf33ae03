"""Anybody's Keras model as an encoder, against the model itself."""

from inspect import signature

import keras
import numpy as np
import pytest
from keras import layers
from support.backbones import (
    SIDE,
    Counting,
    Forgetful,
    Hiding,
    Subclassed,
    around,
    functional,
    sequential,
)

from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
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
from moco_tf.runs.backbone import backbone_lines, find_backbone
from moco_tf.runs.objects import with_given_model

GROUP = {"group_size": 4, "group_layout": "contiguous", "running_statistics": "mean"}
MODELS = {"sequential": sequential, "functional": functional, "code": lambda: Subclassed(7)}


def images(count=8, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, SIDE, SIDE, 3))


def disturbed(model, seed=1):
    """The model, with arrays that no initializer draws."""
    model(images(1))
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.dtype.startswith("float"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape) * random.choice([-1, 1]))
            if "variance" in variable.name:
                variable.assign(np.abs(variable))
    return model


def encoder_of(model, **changes):
    settings = {"image_size": SIDE, "head": "mlp", "dim": 3, **GROUP, "dtype": "float64"} | changes
    encoder = keras_encoder(architecture_of(model, SIDE), **settings)
    assign_arrays(encoder.backbone.get_layer(BODY), arrays_of(model))
    return encoder


def pooled(features):
    features = np.asarray(features)
    return features.mean(axis=(1, 2)) if features.ndim == 4 else features


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_computes_what_the_model_does(name):
    model = disturbed(MODELS[name]())
    before = [variable.numpy() for variable in model.variables]
    found = encoder_of(model, dtype="float32").backbone(images(), training=False)
    wanted = pooled(model(images(), training=False))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    for array, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(array, variable.numpy())  # the user's model stays as it is


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
def test_batch_norm_in_groups_is_the_model_run_group_by_group(make, layout):
    model = disturbed(make())
    encoder = encoder_of(model, group_layout=layout)
    rows = np.arange(8).reshape(2, 4) if layout == "contiguous" else np.arange(8).reshape(4, 2).T
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    wanted, statistics = np.zeros((8, encoder.backbone.output_shape[-1])), []
    for group in rows:
        for variable, own in zip(twin.variables, model.variables, strict=True):
            variable.assign(own)
        wanted[group] = pooled(twin(images()[group], training=True))
        statistics.append(arrays_of(twin))
    found = encoder.backbone(images(), training=True)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-4 * np.abs(wanted).max())
    found, before = arrays_of(encoder.backbone.get_layer(BODY)), arrays_of(model)
    moved = [name for name in found if "moving_mean" in name]
    assert len(moved) == sum(isinstance(one, layers.BatchNormalization) for one in within(model))
    for name in moved:
        mean = np.mean([one[name] for one in statistics], axis=0)
        assert np.abs(mean - before[name]).max() > 0.01
        np.testing.assert_allclose(found[name], mean, rtol=1e-4, atol=1e-4)


def test_settings_and_initial_values_are_kept():
    norm = layers.BatchNormalization(
        momentum=0.7, epsilon=0.02, center=False, gamma_initializer=keras.initializers.Constant(3.0)
    )
    encoder = keras_encoder(
        architecture_of(around(norm), SIDE), image_size=SIDE, head="none", dim=2, **GROUP
    )
    (found,) = [one for one in within(encoder.backbone) if isinstance(one, GroupBatchNorm)]
    assert (found.momentum, found.epsilon, found.center, found.beta) == (0.7, 0.02, False, None)
    np.testing.assert_array_equal(found.gamma, np.full(4, 3.0))


def test_a_frozen_batch_norm_is_in_inference_mode():
    norm = layers.BatchNormalization()
    model = disturbed(around(norm))
    norm.trainable = False
    encoder = encoder_of(model)
    before = arrays_of(encoder.backbone.get_layer(BODY))
    found = encoder.backbone(images(), training=True)
    wanted = pooled(model(images(), training=False))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    for name, array in arrays_of(encoder.backbone.get_layer(BODY)).items():
        np.testing.assert_array_equal(array, before[name])
    assert len(encoder.backbone.trainable_variables) == 2


def test_names_and_weights_do_not_depend_on_what_the_process_has_built():
    first, second = (architecture_of(model, SIDE) for model in (sequential(), sequential()))
    assert first == second
    models = [
        keras_encoder(text, image_size=SIDE, head="linear", dim=2, seed=5, **GROUP).model
        for text in (first, second)
    ]
    assert array_names(models[0]) == array_names(models[1])
    assert array_names(models[0]) == [
        "backbone/conv2d/kernel",
        "backbone/batch_normalization/gamma",
        "backbone/batch_normalization/beta",
        "backbone/batch_normalization/moving_mean",
        "backbone/batch_normalization/moving_variance",
        "backbone/sequential/conv2d/kernel",
        "backbone/sequential/batch_normalization/beta",
        "backbone/sequential/batch_normalization/moving_mean",
        "backbone/sequential/batch_normalization/moving_variance",
        "fc/kernel",
        "fc/bias",
    ]
    for one, other in zip(*(model.variables for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_copies_of_one_model_inside_a_third_have_arrays_of_their_own():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = around()(inputs)
    y = around()(inputs)
    names = array_names(keras.Model(inputs, layers.Add()([x, y])))
    assert len(set(names)) == len(names) == 4


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (functional(), True),
        (around(layers.Rescaling(2.0)), False),
        (keras.Sequential([keras.Input((SIDE, SIDE, 3)), functional()]), True),
        (sequential(), False),
    ],
)
def test_own_preprocessing_is_what_comes_before_the_first_weights(model, wanted):
    assert preprocesses(model) is wanted


def _two_inputs():
    inputs = [keras.Input((SIDE, SIDE, 3)) for _ in range(2)]
    return keras.Model(inputs, layers.Conv2D(2, 3)(layers.Add()(inputs)))


def _two_outputs():
    model = functional()
    return keras.Model(model.input, [model.output, model.output + 1])


def _frozen():
    model = functional()
    model.trainable = False
    return model


class Refusing(layers.Layer):
    def call(self, images):
        if images.shape[1] is not None:
            raise RuntimeError("no pictures\ntoday")
        return images


def _not_finite():
    model = around()
    model.layers[-1].bias.assign([np.nan] * 4)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(3), "backbone must be a keras.Model; received a Dense"),
        (_two_inputs, "has 2 inputs; it must have one"),
        (_two_outputs, "has 2 outputs; it must have one"),
        (lambda: around(layers.Reshape((1, -1))), "must end in features [b, D] or in a feature"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(1, 3)]), "image_size=8"),
        (lambda: keras.Sequential([keras.Input((16, 16, 1)), layers.Conv2D(1, 3)]), "16, 16, 1]"),
        (_not_finite, "makes NaN or infinity of images of numbers from 0 to 1"),
        (
            lambda: keras.Sequential([keras.Input((None, None, 3)), Refusing()]),
            f"does not take images [b, {SIDE}, {SIDE}, 3]: no pictures today",
        ),
        (_frozen, "has no weights to train. Set trainable=True"),
        (lambda: keras.Sequential([keras.Input((16, 16, 3)), layers.Flatten()]), "no weights"),
        (lambda: around(layers.Lambda(lambda x: x, name="odd")), "layer odd is a Lambda"),
        (lambda: around(Hiding(name="odd")), "layer odd (Hiding) hides BatchNormalization"),
        (lambda: around(Counting(name="odd")), "odd changes its calls in training"),
        pytest.param(
            lambda: around(layers.BatchNormalization(renorm=True, name="odd")),
            "layer odd is Batch",
            marks=pytest.mark.skipif(
                "renorm" not in signature(layers.BatchNormalization).parameters,
                reason="this Keras has no renorm",
            ),
        ),
        (lambda: Forgetful(5), "does not come back from its get_config"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        architecture_of(make(), SIDE)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_a_backbone_with_its_weights(tmp_path):
    model = disturbed(sequential())
    model.save(tmp_path / "mine.keras")
    config = make_config(Config(), {"encoder": str(tmp_path / "mine.keras"), "image_size": SIDE})
    found, weights = find_backbone(config)
    assert found.architecture == architecture_of(model, SIDE)
    assert found.normalization == config.normalization
    assert weights.arrays.keys() == {f"query_encoder/{name}" for name in arrays_of(model)}
    for name, array in arrays_of(model).items():
        np.testing.assert_array_equal(weights.arrays[f"query_encoder/{name}"], array)
    (line,) = backbone_lines(found)
    assert "it takes pixels with normalization imagenet; width and stem are of the" in line


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("away.keras", "there is no file encoder="),
        ("damaged.keras", "is not a Keras model that can be read: it is cut off, or another"),
        ("model", "Give it, or name a keras:NAME or a .keras file"),
    ],
)
def test_what_names_no_model_is_refused_in_one_line(encoder, message, tmp_path):
    (tmp_path / "damaged.keras").write_bytes(b"PK")
    name = encoder if encoder == "model" else str(tmp_path / encoder)
    with pytest.raises(InputError) as error:
        find_backbone(make_config(Config(), {"encoder": name}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["recompute", "pretrained"])
def test_what_does_not_go_with_a_given_model_is_refused(field):
    encoder = {"encoder": "keras:VGG16"} if field == "pretrained" else {}
    with pytest.raises(InputError, match=f"{field} does not go with backbone="):
        with_given_model(make_config(Config(), {field: True, **encoder}))
