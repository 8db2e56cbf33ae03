"""Vision transformers from MoCo v3's, timm's and torchvision's files, and back."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.recorded import drawn, recipe

from moco_tf.convert.command import convert
from moco_tf.convert.vit_names import timm_order
from moco_tf.errors import InputError
from moco_tf.models.tokens import position_table
from moco_tf.names.encoder import VITS
from moco_tf.runs.encoders import load_encoder

TINY = {"width": 24, "depth": 2, "heads": 3}
PATCH, SIDE = 4, 3


def shapes(stem, width=24, depth=2, patch=PATCH, side=SIDE):
    """timm's names of a ViT's arrays, and PyTorch's shapes."""
    found = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + side**2, width)}
    proj = "patch_embed.proj"
    if stem == "patch":
        found |= {f"{proj}.weight": (width, 3, patch, patch), f"{proj}.bias": (width,)}
    else:
        before = 3
        for number, size in enumerate((width // 8, width // 4, width // 2, width)):
            found[f"{proj}.{3 * number}.weight"] = (size, before, 3, 3)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                found[f"{proj}.{3 * number + 1}.{leaf}"] = (size,)
            before = size
        found |= {f"{proj}.12.weight": (width, width, 1, 1), f"{proj}.12.bias": (width,)}
    for block in range(depth):
        sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for layer, (out, into) in sizes.items():
            found[f"blocks.{block}.{layer}.weight"] = (out * width, into * width)
            found[f"blocks.{block}.{layer}.bias"] = (out * width,)
        for layer in ("norm1", "norm2"):
            found |= {f"blocks.{block}.{layer}.{leaf}": (width,) for leaf in ("weight", "bias")}
    return found | {"norm.weight": (width,), "norm.bias": (width,)}


def arrays_of(stem, **sizes):
    return {name: recipe(f"v3/base_encoder.{name}", s) for name, s in shapes(stem, **sizes).items()}


def official(path, arrays):
    """As the official code saves it: both networks, the projector, the predictor."""
    heads = {f"head.{n}.weight": np.ones((4, 4), np.float32) for n in (0, 3, 6)}
    whole = {f"module.base_encoder.{n}": a for n, a in (arrays | heads).items()}
    whole |= {f"module.momentum_encoder.{n}": a + 1 for n, a in (arrays | heads).items()}
    save_file(whole | {"module.predictor.0.weight": np.ones((4, 4), np.float32)}, path)
    return path


@pytest.fixture
def tiny(monkeypatch):
    for name, stem in (("vit_tiny", "patch"), ("vit_conv_small", "conv")):
        monkeypatch.setitem(VITS, name, TINY | {"stem": stem})


def test_an_official_file_and_timms_and_torchvisions_names_hold_one_encoder(tiny, tmp_path):
    arrays = arrays_of("patch")
    there = official(tmp_path / "official.safetensors", arrays)
    steps = [("moco-tf", "ours"), ("torchvision", "theirs"), ("timm", "timm")]
    for to, name in steps:
        target = tmp_path / f"{name}.safetensors"
        result = convert(there, target, to=to, warn=print)
        assert result["equal"] and result["arrays_equal"], (to, result)
        assert result["encoder"] == "vit_tiny" and result["largest_feature"] > 0.5
        assert result["image_size"] == SIDE * PATCH
        if to == "moco-tf":
            assert any("momentum_encoder" in note for note in result["notes"])
            assert any("head.0.weight" in note for note in result["notes"])
        there = target
    theirs = load_file(tmp_path / "theirs.safetensors")
    assert {"class_token", "conv_proj.weight", "encoder.ln.bias"} < set(theirs)
    joint = "encoder.layers.encoder_layer_1.self_attention.in_proj_bias"
    np.testing.assert_array_equal(theirs[joint], arrays["blocks.1.attn.qkv.bias"])
    back = load_file(tmp_path / "timm.safetensors")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_a_convolutional_stem_is_of_timm_alone(tiny, tmp_path):
    arrays = arrays_of("conv")
    there = official(tmp_path / "official.safetensors", arrays)
    result = convert(there, tmp_path / "timm.safetensors", to="timm", warn=print)
    assert result["equal"] and result["encoder"] == "vit_conv_small"
    with pytest.raises(InputError, match="no ViT with MoCo v3's convolutional stem"):
        convert(there, tmp_path / "theirs.safetensors", to="torchvision", warn=print)


def test_another_architecture_is_refused_in_one_line(tiny, tmp_path):
    there = official(tmp_path / "official.safetensors", arrays_of("patch", width=32))
    with pytest.raises(InputError, match=r"no known ViT: width 32, 2 blocks, patch stem\. Known"):
        convert(there, tmp_path / "ours.safetensors", to="moco-tf", warn=print)
    missing = arrays_of("patch")
    del missing["blocks.1.mlp.fc2.bias"]
    there = official(tmp_path / "cut.safetensors", missing)
    with pytest.raises(InputError, match=re.escape("blocks.1.mlp.fc2.bias")):
        convert(there, tmp_path / "ours.safetensors", to="moco-tf", warn=print)


def test_names_are_listed_as_timm_registers_them():
    names = list(shapes("patch"))
    listed = sorted(names, key=timm_order)
    projection = ["patch_embed.proj.weight", "patch_embed.proj.bias"]
    assert listed[:4] == ["cls_token", "pos_embed", *projection]
    first = [n.removeprefix("blocks.0.") for n in listed if n.startswith("blocks.0.")]
    modules = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in first))
    assert modules == ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    assert listed[-2:] == ["norm.weight", "norm.bias"]


@pytest.mark.golden
@pytest.mark.slow
def test_a_converted_vit_s_gives_the_recorded_features(golden, tmp_path):
    arrays = arrays_of("patch", width=384, depth=12, patch=16, side=14)
    arrays["pos_embed"] = position_table(14, 384)[None]
    there = official(tmp_path / "vit-s-300ep.safetensors", arrays)
    result = convert(there, tmp_path / "ours.safetensors", to="moco-tf", warn=print)
    assert result["equal"] and result["encoder"] == "vit_small"
    encoder, config, _ = load_encoder(tmp_path / "ours.safetensors", warn=print)
    assert (config.patch_size, config.image_size, config.head) == (16, 224, "none")
    images = drawn("input/8x3x224x224", (8, 3, 224, 224)).transpose(0, 2, 3, 1)
    wanted = golden("moco_v3")["vit_small/eval_features"]
    found = encoder.backbone(images, training=False).numpy()[: len(wanted)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
