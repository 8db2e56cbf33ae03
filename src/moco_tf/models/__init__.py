"""ENCODERS: name -> structure, one line per ResNet; `build_encoder` knows the ViTs too."""

from moco_tf.models.heads import HEADS
from moco_tf.models.resnet import EXPANSION, Encoder, resnet
from moco_tf.models.vit import vit
from moco_tf.names.encoder import VITS

ENCODERS: dict[str, dict] = {
    "resnet18": {"block": "basic", "blocks": (2, 2, 2, 2)},
    "resnet34": {"block": "basic", "blocks": (3, 4, 6, 3)},
    "resnet50": {"block": "bottleneck", "blocks": (3, 4, 6, 3)},
    "resnet101": {"block": "bottleneck", "blocks": (3, 4, 23, 3)},
    "resnet152": {"block": "bottleneck", "blocks": (3, 8, 36, 3)},
    "wide_resnet50_2": {"block": "bottleneck", "blocks": (3, 4, 6, 3), "inner_factor": 2},
    "wide_resnet101_2": {"block": "bottleneck", "blocks": (3, 4, 23, 3), "inner_factor": 2},
}
Shapes = dict[str, tuple[int, ...]]


def telling_shapes(name: str, *, head: str, dim: int, mlp_dim: int = 0, **sizes) -> Shapes:
    """Returns the shapes of a few kernels, by layer, from which an encoder's size can be told.

    They are a thirtieth of its weights or more: where a file holds them, building the encoder takes
    memory that is in proportion to the file.

    Args:
        sizes: stem and width of a ResNet; patch_size, vit_width and vit_depth of a ViT.
    """
    kind = "vit" if name in VITS else "resnet"
    shapes, features = (_of_vit if kind == "vit" else _of_resnet)(name, **sizes)
    layer = HEADS[kind].projector
    if head == "v3":
        shapes[f"{layer}.0"] = (features, mlp_dim)
    elif head != "none":
        shapes[layer if head == "linear" else f"{layer}.2"] = (features, dim)
    return shapes


def _of_resnet(name: str, *, stem: str, width: int, **_) -> tuple[Shapes, int]:
    inner = 8 * width * ENCODERS[name].get("inner_factor", 1)
    side = 7 if stem == "imagenet" else 3
    shapes: Shapes = {"conv1": (side, side, 3, width), "layer4.0.conv2": (3, 3, inner, inner)}
    return shapes, 8 * width * EXPANSION[ENCODERS[name]["block"]]


def _of_vit(
    name: str, *, patch_size: int, vit_width: int | None, vit_depth: int | None, **_
) -> tuple[Shapes, int]:
    width, depth = vit_width or VITS[name]["width"], vit_depth or VITS[name]["depth"]
    shapes: Shapes = {f"blocks.{n}.attn.qkv": (width, 3 * width) for n in (0, depth - 1)}
    if VITS[name]["stem"] == "patch":
        shapes["patch_embed.proj"] = (patch_size, patch_size, 3, width)
    return shapes, width


def build_encoder(name: str, **settings) -> Encoder:
    """Returns the encoder called `name`.

    Args:
        settings: those of `resnet`; of a ViT those of `vit`, where width and depth may be None.
    """
    if name not in VITS:
        return resnet(**ENCODERS[name], **settings)
    sizes = {key: value for key, value in settings.items() if value is not None}
    return vit(**VITS[name] | sizes)
