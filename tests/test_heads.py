"""The heads of MoCo v3: their layers, how they begin, and the recorded networks with them."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from support.recorded import drawn, recipe
from support.v3_networks import DIM, HIDDEN, networks

from moco_tf.models import ENCODERS
from moco_tf.models.batch_norm import ALL, GroupBatchNorm
from moco_tf.models.heads import HEADS, with_predictor, with_projector
from moco_tf.models.resnet import resnet
from moco_tf.models.torch_names import from_torch, to_torch, torch_name
from moco_tf.models.vit import vit
from moco_tf.names.encoder import VITS


def test_heads_are_the_official_ones():
    """Layers, and who ends in a BatchNorm; the projector always does, without scale and shift."""
    wanted = {
        "resnet": ("fc", [0, 1, 3, 4], [0, 1, 3]),
        "vit": ("head", [0, 1, 3, 4, 6, 7], [0, 1, 3, 4]),
    }
    assert wanted.keys() == HEADS.keys()
    for kind, (name, projector, predictor) in wanted.items():
        query, key = networks(kind)
        layers = {layer.name: layer for layer in query.model.layers}
        for head, numbers in ((name, projector), ("predictor", predictor)):
            assert [n for n in layers if n.startswith(f"{head}.")] == [
                f"{head}.{i}" for i in numbers
            ]
            linear = [layers[f"{head}.{i}"] for i in numbers if i % 3 == 0]
            assert not any(layer.use_bias for layer in linear)
            assert [layer.units for layer in linear] == [HIDDEN] * (len(linear) - 1) + [DIM]
            bound = 1 / np.sqrt(linear[0].kernel.shape[0])
            largest = np.abs(linear[0].kernel.numpy()).max()
            assert 0.7 * bound < largest <= bound
        assert layers[f"{name}.{projector[-1]}"].trainable_variables == []
        assert layers[f"{name}.1"].gamma is not None
        assert key.model.output_shape == query.model.output_shape == (None, DIM)


SIDES = {"vit_small": 224, "vit_conv_small": 224, "resnet50": 64}


def recorded_network(name, hidden):
    """Backbone, projector and predictor of `name` in float64, with the recorded weights."""
    if name in VITS:
        encoder = vit(**VITS[name], image_size=SIDES[name], dtype="float64")
    else:
        norms = {"group_layout": "contiguous", "running_statistics": "mean"}
        settings = {"stem": "imagenet", "width": 64, "head": "none", "dim": 0, "group_size": ALL}
        encoder = resnet(
            **ENCODERS[name], **settings, **norms, image_size=SIDES[name], dtype="float64"
        )
    kind = "vit" if name in VITS else "resnet"
    norm = partial(GroupBatchNorm, dtype="float64")
    head = {"hidden": hidden, "norm": norm, "dtype": "float64", "seed": 0}
    projected = with_projector(encoder, kind, dim=256, **head)
    query = with_predictor(projected, kind, **head)
    for variable in query.model.variables:
        layer, leaf = variable.path.rsplit("/", 1)
        if leaf == "pos_embed":
            continue
        own = leaf if layer == "tokens" else torch_name(variable.path)
        prefix = "" if own.startswith("predictor.") else "base_encoder."
        shape = to_torch(np.empty(variable.shape)).shape
        variable.assign(from_torch(recipe(f"v3/{prefix}{own}", shape)))
    return encoder.backbone, projected.model, query.model


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        pytest.param("vit_small", 4096, marks=pytest.mark.long),
        pytest.param("vit_conv_small", 1024, marks=pytest.mark.long),
        ("resnet50", 4096),
    ],
)
def test_recorded_networks_are_met(golden, name, hidden):
    """Features, projections and predictions, by running statistics and by those of the batch."""
    z = golden("moco_v3")
    shape = (16 if name == "resnet50" else 8, 3, SIDES[name], SIDES[name])
    images = drawn(f"input/{'x'.join(map(str, shape))}", shape)
    images = tf.constant(images.transpose(0, 2, 3, 1).astype(np.float64))
    models = recorded_network(name, hidden)
    for mode in ("eval", "train"):
        for part, model in zip(("features", "proj", "pred"), models, strict=True):
            found = model(images, training=mode == "train").numpy()
            wanted = z[f"{name}/{mode}_{part}"]  # of a ResNet's features the first two rows
            found = found[: len(wanted)]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-7 * np.abs(wanted).max())
