"""PyTorch's names: both ways, and in the order in which torchvision registers its modules."""

import numpy as np

from moco_tf.convert.detectron2 import detectron2_name, from_detectron2_name
from moco_tf.models import build_encoder
from moco_tf.models.torch_names import (
    from_torch,
    our_name,
    to_torch,
    torch_name,
    torch_order,
)


def model():
    return build_encoder(
        "resnet50", image_size=32, stem="imagenet", width=4, head="mlp", dim=8, group_size=None,
        group_layout="contiguous", running_statistics="mean",
    ).model  # fmt: skip


def test_every_name_goes_both_ways():
    for variable in model().variables:
        name = torch_name(variable.path)
        assert our_name(name, len(variable.shape)) == variable.path
        assert from_detectron2_name(detectron2_name(name)) == name
        array = np.random.default_rng(0).random(variable.shape)
        np.testing.assert_array_equal(from_torch(to_torch(array)), array)


def test_order_is_torchvisions():
    names = sorted((torch_name(v.path) for v in model().variables), key=torch_order)
    statistics = ["weight", "bias", "running_mean", "running_var"]
    block = [
        name
        for i in (1, 2, 3)
        for name in [f"conv{i}.weight", *(f"bn{i}.{leaf}" for leaf in statistics)]
    ]
    shortcut = ["downsample.0.weight", *(f"downsample.1.{leaf}" for leaf in statistics)]
    expected = ["conv1.weight", *(f"bn1.{leaf}" for leaf in statistics)]
    for stage, count in enumerate((3, 4, 6, 3)):
        for index in range(count):
            members = block + (shortcut if index == 0 else [])
            expected += [f"layer{stage + 1}.{index}.{member}" for member in members]
    expected += ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]
    assert names == expected
