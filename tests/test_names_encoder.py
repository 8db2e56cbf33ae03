"""Names of encoders, told right or wrong without TensorFlow."""

import keras
import pytest

from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
from moco_tf.models import ENCODERS
from moco_tf.names.encoder import RESNETS, application_names, check_encoder, is_same_backbone


def test_the_resnets_named_are_those_that_are_built():
    assert set(RESNETS) == ENCODERS.keys()


def test_the_applications_are_those_of_the_installed_keras():
    made = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(application_names()) == made


@pytest.mark.parametrize("name", ["resnet18", "keras:EfficientNetV2B0", "a/b.keras", "model"])
def test_what_an_encoder_may_be(name):
    assert check_encoder(name) == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "keras:EfficientNetV2b0"}, "Did you mean keras:EfficientNetV2B0?"),
        ({"encoder": "EfficientNetV2B0"}, "Did you mean keras:EfficientNetV2B0?"),
        ({"encoder": "resnet-50"}, "Did you mean resnet50?"),
        ({"encoder": "keras:zzz"}, "keras.applications has ConvNeXtBase, "),
        ({"encoder": "zzz"}, "received encoder='zzz'. Use one of resnet18"),
        ({"pretrained": True}, "pretrained needs an encoder keras:NAME; received encoder=resnet50"),
        (
            {"encoder": "keras:VGG16", "pretrained": True, "init": "a"},
            "pretrained and init are both weights",
        ),
        ({"encoder": "keras:VGG16", "recompute": True}, "recompute needs one of the ResNets"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError) as error:
        make_config(Config(), changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("keras:VGG16", "keras:VGG16", True),
        ("keras:VGG16", "keras:VGG19", False),
        ("a.keras", "elsewhere/b.keras", True),
        ("a.keras", "keras:VGG16", False),
        ("a.keras", "resnet18", False),
        ("resnet18", "resnet18", False),
    ],
)
def test_which_names_may_be_one_backbone(one, other, same):
    assert is_same_backbone(one, other) is is_same_backbone(other, one) is same
