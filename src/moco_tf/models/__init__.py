"""ENCODERS: name -> structure, one line per ResNet."""

from moco_tf.models.resnet import EXPANSION, Encoder, resnet

ENCODERS: dict[str, dict] = {
    "resnet18": {"block": "basic", "blocks": (2, 2, 2, 2)},
    "resnet34": {"block": "basic", "blocks": (3, 4, 6, 3)},
    "resnet50": {"block": "bottleneck", "blocks": (3, 4, 6, 3)},
    "resnet101": {"block": "bottleneck", "blocks": (3, 4, 23, 3)},
    "resnet152": {"block": "bottleneck", "blocks": (3, 8, 36, 3)},
    "wide_resnet50_2": {"block": "bottleneck", "blocks": (3, 4, 6, 3), "inner_factor": 2},
    "wide_resnet101_2": {"block": "bottleneck", "blocks": (3, 4, 23, 3), "inner_factor": 2},
}


def telling_shapes(
    name: str, *, stem: str, width: int, head: str, dim: int
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a few kernels, by layer, from which an encoder's size can be told.

    They are a thirtieth of its weights or more: where a file holds them, building the encoder takes
    memory that is in proportion to the file.
    """
    inner = 8 * width * ENCODERS[name].get("inner_factor", 1)
    features = 8 * width * EXPANSION[ENCODERS[name]["block"]]
    side = 7 if stem == "imagenet" else 3
    shapes: dict[str, tuple[int, ...]] = {
        "conv1": (side, side, 3, width),
        "layer4.0.conv2": (3, 3, inner, inner),
    }
    if head != "none":
        shapes["fc" if head == "linear" else "fc.2"] = (features, dim)
    return shapes


def build_encoder(name: str, **settings) -> Encoder:
    """Returns the encoder called `name`; `settings` are those of `resnet`."""
    return resnet(**ENCODERS[name], **settings)
