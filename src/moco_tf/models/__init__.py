"""ENCODERS: name -> structure, one line per backbone."""

from moco_tf.models.resnet import Encoder, resnet

ENCODERS: dict[str, dict] = {
    "resnet18": {"block": "basic", "blocks": (2, 2, 2, 2)},
    "resnet34": {"block": "basic", "blocks": (3, 4, 6, 3)},
    "resnet50": {"block": "bottleneck", "blocks": (3, 4, 6, 3)},
    "resnet101": {"block": "bottleneck", "blocks": (3, 4, 23, 3)},
    "resnet152": {"block": "bottleneck", "blocks": (3, 8, 36, 3)},
    "wide_resnet50_2": {"block": "bottleneck", "blocks": (3, 4, 6, 3), "inner_factor": 2},
    "wide_resnet101_2": {"block": "bottleneck", "blocks": (3, 4, 23, 3), "inner_factor": 2},
}


def build_encoder(name: str, **settings) -> Encoder:
    """Returns the encoder called `name`; `settings` are those of `resnet`."""
    return resnet(**ENCODERS[name], **settings)
