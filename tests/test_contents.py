"""Encoders found in the layouts of other projects' checkpoints, weight for weight. No PyTorch."""

import time

import numpy as np
import pytest

from moco_tf.convert.architecture import infer
from moco_tf.convert.contents import named_arrays, take_apart
from moco_tf.errors import InputError


def resnet(seed=0, *, kernel=7, width=4, bottleneck=False):
    """Arrays of a ResNet-18 or 50 by torchvision's names, in its order; without fc."""
    rng = np.random.default_rng(seed)
    arrays = {}

    def conv(name, out, within, size):
        arrays[f"{name}.weight"] = rng.random((out, within, size, size), np.float32) / (
            size * size * within
        )

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{leaf}"] = rng.random(channels, np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", width, 3, kernel)
    norm("bn1", width)
    sizes, expansion = ((1, 3, 1), 4) if bottleneck else ((3, 3), 1)
    within = width
    for stage, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
        planes = width * 2**stage
        outs = [planes] * (len(sizes) - 1) + [planes * expansion]
        for block in range(blocks):
            path, first = f"layer{stage + 1}.{block}", within
            for number, (size, out) in enumerate(zip(sizes, outs, strict=True), 1):
                conv(f"{path}.conv{number}", out, within, size)
                norm(f"{path}.bn{number}", out)
                within = out
            if block == 0 and (stage > 0 or bottleneck):
                conv(f"{path}.downsample.0", within, first, 1)
                norm(f"{path}.downsample.1", within)
    return arrays


def linear(name, out, within, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"{name}.weight": rng.random((out, within), np.float32),
        f"{name}.bias": rng.random(out, np.float32),
    }


def under(prefix, arrays):
    return {prefix + name: value for name, value in arrays.items()}


def numbered(arrays, first_stage, linear_at=None):
    """As nn.Sequential(*resnet.children()) names them."""
    modules = {"conv1": 0, "bn1": 1, "fc": linear_at}
    modules |= {f"layer{i}": i + first_stage - 1 for i in range(1, 5)}
    split = {name: name.split(".", 1) for name in arrays}
    return {f"{modules[a]}.{b}": arrays[name] for name, (a, b) in split.items()}


def wrapped(arrays, wrapper, *modules):
    """Names with `wrapper` behind each of `modules`: what wraps a part of a network."""
    return {
        ".".join(f"{part}.{wrapper}" if part in modules else part for part in name.split(".")): v
        for name, v in arrays.items()
    }


A = resnet()
B = resnet(1)  # another encoder in the file
SMALL = resnet(2, kernel=3)
DEEP = resnet(3, bottleneck=True)
LINEAR = linear("fc", 6, 32)
MLP = linear("fc.0", 32, 32) | linear("fc.2", 6, 32, 1)
MOCO = under("encoder_q.", A | LINEAR) | under("encoder_k.", B | LINEAR)
MOCO |= {"queue": np.ones((6, 8), np.float32), "queue_ptr": np.array([4])}
BIG_HEAD = linear("fc.0", 9, 32) | linear("fc.1", 9, 9) | linear("fc.3", 6, 9)
PROJECTOR = linear("projector.0", 9, 32) | linear("projector.2", 6, 9)
DINO_HEAD = under("head.", linear("mlp.0", 9, 32) | linear("last_layer", 6, 9))
VISSL = {"base_model": {"model": {"trunk": under("_feature_blocks.", A), "heads": PROJECTOR}}}

# name: (content of the file, encoder that is wanted, what the notes say)
LAYOUTS = {
    "official MoCo v1, full": ({"epoch": 3, "state_dict": under("module.", MOCO)}, A | LINEAR, 1),
    "official MoCo v2, released": (
        {"arch": "resnet18", "state_dict": under("module.encoder_q.", SMALL | MLP)}, SMALL | MLP, 0
    ),
    "MoCo without DataParallel": ({"state_dict": MOCO}, A | LINEAR, 1),
    "MoCo v3's ResNet": (
        {
            "state_dict": under("module.base_encoder.", DEEP | BIG_HEAD)
            | under("module.momentum_encoder.", DEEP | BIG_HEAD)
            | linear("module.predictor.0", 6, 6)
        }, DEEP, 2
    ),
    "CIFAR notebook": (
        {"state_dict": under("encoder_q.net.", numbered(SMALL | LINEAR, 3, 9))}, SMALL | LINEAR, 0
    ),
    "torchvision, with classifier": (A | LINEAR, A | LINEAR, 0),
    "timm": ({"state_dict": A, "state_dict_ema": B, "optimizer": {"state": {}}}, A, 1),
    "timm, ema only": ({"state_dict_ema": A}, A, 0),
    "linear evaluation": ({"state_dict": under("module.", A | LINEAR)}, A | LINEAR, 0),
    "DataParallel twice": ({"state_dict": under("module.module.", A)}, A, 0),
    "torch.compile": ({"model": under("_orig_mod.", A)}, A, 0),
    "torch.compile in DataParallel": (under("module._orig_mod.", A), A, 0),
    "torch.compile of each stage": (wrapped(A, "_orig_mod", "layer1", "layer4"), A, 0),
    "FSDP of each block": (
        under("_fsdp_wrapped_module.", wrapped(A, "_fsdp_wrapped_module", "0", "1")), A, 0
    ),
    "activation checkpoints": (wrapped(A, "_checkpoint_wrapped_module", "0"), A, 0),
    "DeepSpeed": ({"module": under("encoder.", A), "global_steps": 7}, A, 0),
    "solo-learn": (
        {"state_dict": under("backbone.", A) | PROJECTOR | linear("classifier", 10, 32)}, A, 1
    ),
    "solo-learn, older": ({"state_dict": under("encoder.", A) | PROJECTOR}, A, 1),
    "solo-learn's MoCo": (
        {"state_dict": under("momentum_backbone.", B) | under("backbone.", A) | PROJECTOR}, A, 2
    ),
    "Lightning": ({"state_dict": under("model.", A), "hyper_parameters": {"lr": 0.1}}, A, 0),
    "Lightning, compiled": ({"state_dict": under("model._orig_mod.backbone.", A)}, A, 0),
    "lightly, numbered children": (
        {"state_dict": under("backbone.", numbered(A, 4)) | PROJECTOR}, A, 1
    ),
    "lightly's MoCo": (
        {
            "state_dict": under("backbone.", numbered(A, 4))
            | under("projection_head.layers.", linear("0", 9, 32))
            | under("backbone_momentum.", numbered(B, 4))
        }, A, 2
    ),
    "lightly's own CIFAR ResNet": (numbered(SMALL, 2), SMALL, 0),
    "all children, numbered": (numbered(A | LINEAR, 4, 9), A | LINEAR, 0),
    "SimCLR, f and g": (under("module.f.", numbered(SMALL, 3)) | linear("g.0", 9, 32), SMALL, 1),
    "mmselfsup": ({"meta": {}, "state_dict": under("backbone.", A)}, A, 0),
    "OpenSelfSup's MoCo": (
        {
            "state_dict": {"queue": np.ones((6, 8), np.float32)}
            | under("encoder_q.0.", A) | under("encoder_q.1.mlp.", linear("0", 9, 32))
            | under("encoder_k.0.", B) | under("backbone.", A)
        }, A, 2
    ),
    "VISSL": ({"classy_state_dict": VISSL, "phase_idx": 3}, A, 1),
    "DINO": (
        {
            "student": under("module.backbone.", A) | under("module.", DINO_HEAD),
            "teacher": under("backbone.", B) | DINO_HEAD,
            "epoch": 3,
        }, A, 2
    ),
    "DINO, teacher only": ({"teacher": under("module.backbone.", A)}, A, 0),
    "BYOL": (
        under("target_network.encoder.", B) | under("online_network.encoder.", A), A, 1
    ),
    "Barlow Twins, full": (
        {"epoch": 3, "model": under("module.backbone.", A) | under("module.", PROJECTOR)}, A, 1
    ),
    "SimSiam": ({"state_dict": under("module.encoder.", DEEP | BIG_HEAD)}, DEEP, 1),
    "SwAV": (
        under("module.", A) | {"module.prototypes.weight": np.ones((9, 6), np.float32)}, A, 1
    ),
    "SupCon": ({"model": under("encoder.module.", SMALL) | linear("head.0", 9, 32)}, SMALL, 1),
    "kuangliu's": (
        {"net": {n.replace("downsample", "shortcut"): v for n, v in SMALL.items()}, "acc": 93.0},
        SMALL, 0,
    ),
    "model_state_dict": ({"model_state_dict": A, "loss": 0.3}, A, 0),
    "model and its average": ({"model_ema": B, "model": A}, A, 1),
    "a class's own wrapper, nested": ({"a": {"b": {"student": under("my.net.0.", A)}}}, A, 0),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_encoder_is_found_weight_for_weight(layout):
    content, wanted, notes = LAYOUTS[layout]
    parts = take_apart(content, layout)
    assert list(parts.query) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(parts.query[name], value, strict=True)
    assert len(parts.notes) == notes
    found = infer(parts.query, layout)
    encoder = "resnet50" if "layer1.0.conv3.weight" in wanted else "resnet18"
    stem = "small" if wanted["conv1.weight"].shape[2] == 3 else "imagenet"
    assert (found.encoder, found.stem, found.width) == (encoder, stem, 4)


def test_mocos_key_encoder_and_queue_come_along():
    parts = take_apart({"state_dict": under("module.", MOCO)}, "file")
    assert parts.official and parts.key.keys() == parts.query.keys()
    np.testing.assert_array_equal(parts.key["conv1.weight"], B["conv1.weight"])
    assert parts.queue["queue"].shape == (6, 8) and parts.queue["queue_ptr"] == 4
    assert parts.notes == (
        "took the encoder of state_dict.encoder_q; also there: state_dict.encoder_k (--key)",
    )


@pytest.mark.parametrize(
    ("layout", "key", "wanted"),
    [
        ("timm", "state_dict_ema", B),
        ("timm", "state_dict", A),
        ("DINO", "teacher", B),
        ("DINO", "student.module.backbone", A),
        ("MoCo without DataParallel", "encoder_k", B),
        ("official MoCo v1, full", "state_dict.module.encoder_k", B),
        ("OpenSelfSup's MoCo", "encoder_k", B),
    ],
)
def test_key_chooses(layout, key, wanted):
    parts = take_apart(LAYOUTS[layout][0], layout, key)
    assert not parts.official and not parts.queue and not parts.key
    for name, value in wanted.items():
        np.testing.assert_array_equal(parts.query[name], value)
    assert "(--key)" in parts.notes[0]


def test_what_is_left_out_and_what_else_is_there_is_told():
    content, _, _ = LAYOUTS["DINO"]
    assert take_apart(content, "file").notes == (
        "took the encoder of student.backbone; also there: teacher.backbone (--key)",
        "left out what is not part of the encoder: student.head.mlp.0.weight, "
        "student.head.mlp.0.bias, student.head.last_layer.weight, student.head.last_layer.bias, "
        "... (8 in all)",
    )
    with pytest.raises(InputError, match=r"under key=student.head; there are: student.backbone, t"):
        take_apart(content, "file", "student.head")


def test_a_resnets_other_modules_are_not_left_out():
    """A deeper stem or a fifth stage is another architecture: it must be refused, not cut."""
    extra = {"conv2.weight": np.ones((4, 4, 3, 3), np.float32), "layer5.0.conv1.weight": np.ones(3)}
    assert list(take_apart(A | extra, "file").query)[-2:] == list(extra)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"epoch": 3},
        {1: np.ones(3)},
        {"a": [np.ones(3)]},
        {"x" * 400: np.ones(3)},
        {"state_dict": {"x" * 200: {"y" * 200: np.ones(3)}}},
    ],
)
def test_a_file_without_named_arrays_is_none(content):
    with pytest.raises(InputError, match="file holds no state dict: no tensor in it has a name"):
        take_apart(content, "file")


def test_dicts_within_dicts_in_many_places_are_gone_through_once():
    nest = {"conv1.weight": np.ones(3)}
    for _ in range(60):
        nest = {"a": nest, "b": nest}  # 2**60 places
    cycle = {"w": np.ones(1)}
    cycle["again"] = cycle
    started = time.perf_counter()
    assert len(named_arrays(nest)) == 1 and list(named_arrays(cycle)) == ["w"]
    assert time.perf_counter() - started < 5
