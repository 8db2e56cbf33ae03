"""What goes with which method, optimizer and encoder, and what is refused in one line."""

import pytest

from moco_tf.config import make_config
from moco_tf.config.batch_groups import check_devices, check_enough_images
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES

V2, RESNET, VIT = (RECIPES[name].config for name in ("moco-v2", "cifar10-v3", "cifar10-v3-vit"))


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (
            RESNET,
            {"queue_size": 65536},
            "queue_size has no effect with method=moco-v3: MoCo v3 has",
        ),
        (RESNET, {"symmetric": "true"}, "symmetric has no effect with method=moco-v3"),
        (V2, {"mlp_dim": "512"}, "mlp_dim has no effect with method=moco: v1 and v2 have no pred"),
        (V2, {"momentum_schedule": "cosine"}, "Leave momentum_schedule out, or use --method moco-"),
        (V2, {"head": "v3"}, "received method=moco. Use --head mlp, or --method moco-v3"),
        (RESNET, {"devices": 3}, "divide batch_size=256; received devices=3. Use --devices 2, or"),
        (RESNET, {"accumulation_steps": 4}, "accumulation_steps=4. Use --group-size 64."),
        (
            RESNET,
            {"accumulation_steps": 4, "encoder": "resnet50"},
            "with group_size=all and encoder=resnet50, for BatchNorm needs the whole batch at once",
        ),
        (
            VIT,
            {"accumulation_steps": 2, "encoder": "vit_conv_small", "patch_size": 16},
            "encoder=vit_conv_small, for BatchNorm needs the whole batch at once; received acc",
        ),
        (
            VIT,
            {"accumulation_steps": 3},
            "devices = 256; received accumulation_steps=3. Use --accu",
        ),
        (
            VIT,
            {"accumulation_steps": 100, "devices": 2},
            "a device, batch_size / devices = 128; received accumulation_steps=100. Use --accum",
        ),
        (VIT, {"accumulation_steps": 8, "devices": 3}, "Use --devices 2, or --batch-size 240."),
        (RESNET, {"devices": 2, "xla": "on"}, "received devices=2. Use --xla off, or a number for"),
        (
            RESNET,
            {"warmup_epochs": 20},
            "epochs=20; received warmup_epochs=20. Use --warmup-epochs",
        ),
        (
            RESNET,
            {"group_size": "some"},
            "must be a number of images or all; received group_size='s",
        ),
        (RESNET, {"group_size": "1"}, "received group_size='1'"),
        (
            RESNET,
            {"patch_size": 4},
            "is for ViTs alone; received patch_size=4 with encoder=resnet18. Use",
        ),
        (VIT, {"image_size": 30}, "received image_size=30, patch_size=4. Use image_size=28."),
        (VIT, {"vit_width": 50}, "received vit_width=50, heads=3. Use vit_width=48."),
        (VIT, {"vit_width": 6}, "a multiple of its heads and of 4; received vit_width=6, heads=3."),
        (VIT, {"width": 64}, "received width=64 with encoder=vit_tiny. Use --vit-width."),
        (VIT, {"encoder": "vit_conv_small"}, "patch_size of vit_conv_small must be 16"),
        (VIT, {"encoder": "vit_smal"}, "received encoder='vit_smal'. Did you mean vit_small?"),
        (VIT, {"sgd_momentum": "0.8"}, "no effect with optimizer=adamw; received sgd_momentum=0.8"),
        (VIT, {"optimizer": "adam"}, "received optimizer='adam'"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(base, changes, message):
    with pytest.raises(InputError) as caught:
        make_config(base, changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_another_method_takes_the_rest_of_the_recipe_with_its_own_heads_and_groups():
    config = make_config(RECIPES["shapes"].config, {"method": "moco-v3", "epochs": "3"})
    assert (config.head, config.group_size, config.knn_features) == ("v3", "all", "pooled")
    assert (config.queue_size, config.epochs, config.temperature) == (65536, 3, 0.2)
    assert config.group_images == config.batch_size == 64
    back = make_config(config, {"method": "moco", "queue_size": 512})
    assert (back.head, back.group_size, back.queue_size) == ("mlp", 32, 512)
    assert make_config(RESNET, {"method": "moco-v3"}) == RESNET


@pytest.mark.parametrize("group_size", ["32", 32, "all"])
def test_groups_are_a_number_or_all_also_as_text(group_size):
    wanted = group_size if group_size == "all" else 32
    assert make_config(RESNET, {"group_size": group_size}).group_size == wanted


def test_a_backbone_without_batch_norm_takes_microbatches():
    config = make_config(VIT, {"accumulation_steps": "16", "devices": 2})
    assert config.caches_gradients
    assert not make_config(VIT, {"accumulation_steps": 2, "group_size": 32}).caches_gradients
    make_config(RESNET, {"accumulation_steps": 2, "group_size": 32})  # has groups of its own


def test_one_group_takes_equal_shares_of_any_devices():
    check_devices(12, "all", 2, workers=3)
    advice = r"received devices=4 on each of 2 workers\. Use --devices 3, or --batch-size 8\.$"
    with pytest.raises(InputError, match=advice):
        check_devices(12, "all", 4, workers=2)
    with pytest.raises(InputError, match=r"batch_size=64\. Use --batch-size 38\.$"):
        check_enough_images(39, 64, "all", devices=2)
    with pytest.raises(InputError, match=r"batch_size=64\. Use --batch-size 32\.$"):
        check_enough_images(39, 64, "all", devices=2, accumulation_steps=8)


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "warmup"),
    [  # section 5.1 of the official code's settings, at their batch
        ("moco-v3-r50-100ep", 4096, 9.6, 1e-6, 10),
        ("moco-v3-r50-300ep", 4096, 4.8, 1e-6, 10),
        ("moco-v3-r50-1000ep", 4096, 4.8, 1.5e-6, 10),
        ("moco-v3-vit-s", 4096, 2.4e-3, 0.1, 40),
        ("moco-v3-vit-b", 4096, 2.4e-3, 0.1, 40),
        ("moco-v3-vit-conv-s", 4096, 2.4e-3, 0.1, 40),
    ],
)
def test_official_recipes(name, batch, rate, decay, warmup):
    config, vit = RECIPES[name].config, "vit" in name
    assert (config.batch_size, config.weight_decay, config.warmup_epochs) == (batch, decay, warmup)
    assert config.scaled_learning_rate == pytest.approx(rate)
    assert (config.dim, config.mlp_dim, config.group_size) == (256, 4096, "all")
    assert (config.temperature, config.crop_min_area) == ((0.2, 0.08) if vit else (1.0, 0.2))
    assert (config.optimizer, config.schedule_unit) == ("adamw" if vit else "lars", "step")
    assert config.momentum_schedule == "cosine"
    assert config.key_momentum == (0.996 if "1000" in name else 0.99)
    assert config.freeze_patch_projection == (name in ("moco-v3-vit-s", "moco-v3-vit-b"))
    blurs = [view.blur.probability for view in config.views]
    assert blurs == [1.0, 0.1] and config.views[1].solarize.probability == 0.2
