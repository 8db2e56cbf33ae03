"""RECIPES: name -> a complete config, where it comes from and what to expect of it."""

from dataclasses import dataclass, replace

from moco_tf.config import Config


@dataclass(frozen=True)
class Recipe:
    """A config with its source and the result that its authors report."""

    config: Config
    source: str
    expect: str


_V1 = Config(data="imagenet")
_V2 = _V1.model_copy(
    update={
        "head": "mlp",
        "temperature": 0.2,
        "augmentation": "v2",
        "schedule": "cosine",
    }
)
_DEMO = Config(
    data="cifar10",
    image_size=32,
    augmentation="demo",
    crop_min_area=0.08,
    normalization="cifar10",
    encoder="resnet18",
    stem="small",
    group_size=64,
    group_layout="interleaved",
    running_statistics="mean",
    queue_size=4096,
    key_momentum=0.99,
    temperature=0.1,
    batch_size=512,
    epochs=200,
    schedule="cosine",
    first_epoch=1,
    weight_decay=5e-4,
)
_SHAPES = _DEMO.model_copy(
    update={
        "data": "shapes",
        "normalization": "imagenet",
        "crop_min_area": 0.4,
        "temperature": 0.2,
        "width": 16,
        "group_size": 32,
        "group_layout": "contiguous",
        "queue_size": 512,
        "batch_size": 128,
        "epochs": 12,
        "learning_rate": 0.12,
        "first_epoch": 0,
        "knn_every": 6,
    }
)
_SMALL = _V2.model_copy(
    update={
        "data": "pictures",
        "encoder": "resnet18",
        "group_size": 16,
        "queue_size": 1024,
        "batch_size": 64,
        "learning_rate": 0.12,
    }
)
_V3 = Config(
    data="imagenet",
    method="moco-v3",
    augmentation="v3",
    head="v3",
    dim=256,
    group_size="all",
    key_momentum=0.99,
    momentum_schedule="cosine",
    temperature=1.0,
    batch_size=4096,
    epochs=100,
    optimizer="lars",
    learning_rate=0.6,
    weight_decay=1e-6,
    schedule="cosine",
    schedule_unit="step",
    warmup_epochs=10,
    knn_features="pooled",
)
_V3_VIT = _V3.model_copy(
    update={
        "encoder": "vit_small",
        "freeze_patch_projection": True,
        "crop_min_area": 0.08,
        "temperature": 0.2,
        "epochs": 300,
        "optimizer": "adamw",
        "learning_rate": 1.5e-4,
        "weight_decay": 0.1,
        "warmup_epochs": 40,
    }
)
_CIFAR_V3 = _V3.model_copy(
    update={
        "data": "cifar10",
        "image_size": 32,
        "normalization": "cifar10",
        "encoder": "resnet18",
        "stem": "small",
        "width": 16,
        "mlp_dim": 512,
        "dim": 128,
        "batch_size": 256,
        "epochs": 20,
        "warmup_epochs": 2,
    }
)
_CIFAR_V3_VIT = _CIFAR_V3.model_copy(
    update={
        "encoder": "vit_tiny",
        "width": 64,
        "stem": "imagenet",
        "patch_size": 4,
        "vit_depth": 6,
        "freeze_patch_projection": True,
        "temperature": 0.2,
        "optimizer": "adamw",
        "learning_rate": 5e-4,
        "weight_decay": 0.1,
    }
)
_OFFICIAL = "facebookresearch/moco, commit 7397dfe"
_OFFICIAL_V3 = "arXiv:2104.02057; facebookresearch/moco-v3, commit c349e6e"

DEFAULT_RECIPE = "shapes"
_RECIPES = {
    "moco-v1": Recipe(
        _V1,
        f"arXiv:1911.05722; {_OFFICIAL}",
        "ImageNet linear top-1 60.8 +- 0.2 (53 h on 8 V100, official code); not measured here",
    ),
    "moco-v2": Recipe(
        _V2,
        f"arXiv:2003.04297; {_OFFICIAL}",
        "ImageNet linear top-1 67.5 +- 0.1 (53 h on 8 V100, official code); not measured here",
    ),
    "moco-v2-800ep": Recipe(
        _V2.model_copy(update={"epochs": 800}),
        f"arXiv:2003.04297; {_OFFICIAL}",
        "ImageNet linear top-1 71.1 (about 212 h on 8 V100, official code); not measured here",
    ),
    "moco-v1-simclr": Recipe(
        _V1.model_copy(
            update={
                "augmentation": "simclr",
                "crop_min_area": 0.08,
                "normalization": "none",
            }
        ),
        "MoCo v1 with the augmentations of arXiv:2002.05709, drawn per image",
        "not measured here",
    ),
    "cifar10-demo": Recipe(
        _DEMO,
        "CIFAR-10 demo notebook of facebookresearch/moco, asymmetric loss",
        "kNN top-1 82.6 after 200 epochs (notebook, about 80 minutes on one V100); not measured "
        "here",
    ),
    "cifar10-demo-symmetric": Recipe(
        _DEMO.model_copy(update={"symmetric": True}),
        "CIFAR-10 demo notebook of facebookresearch/moco, symmetric loss",
        "kNN top-1 85.3 after 200 epochs (notebook); not measured here",
    ),
    "moco-v3-r50-100ep": Recipe(
        _V3,
        _OFFICIAL_V3,
        "ImageNet linear top-1 68.9 (16 V100, official code); not measured here",
    ),
    "moco-v3-r50-300ep": Recipe(
        _V3.model_copy(update={"epochs": 300, "learning_rate": 0.3}),
        _OFFICIAL_V3,
        "ImageNet linear top-1 72.8 (16 V100, official code); not measured here",
    ),
    "moco-v3-r50-1000ep": Recipe(
        _V3.model_copy(
            update={
                "epochs": 1000,
                "learning_rate": 0.3,
                "weight_decay": 1.5e-6,
                "key_momentum": 0.996,
            }
        ),
        _OFFICIAL_V3,
        "ImageNet linear top-1 74.6 (16 V100, official code); not measured here",
    ),
    "moco-v3-vit-s": Recipe(
        _V3_VIT,
        _OFFICIAL_V3,
        "ImageNet linear top-1 73.2 (32 V100, official code); not measured here",
    ),
    "moco-v3-vit-b": Recipe(
        _V3_VIT.model_copy(update={"encoder": "vit_base"}),
        _OFFICIAL_V3,
        "ImageNet linear top-1 76.7 (64 V100, official code); not measured here",
    ),
    "moco-v3-vit-conv-s": Recipe(
        _V3_VIT.model_copy(update={"encoder": "vit_conv_small", "freeze_patch_projection": False}),
        _OFFICIAL_V3,
        "not measured here",
    ),
    "cifar10-v3": Recipe(
        _CIFAR_V3,
        "our own: MoCo v3 with a narrow ResNet-18 on CIFAR-10, for two CPU cores",
        "not measured yet",
    ),
    "cifar10-v3-vit": Recipe(
        _CIFAR_V3_VIT,
        "our own: MoCo v3 with a shallow ViT on CIFAR-10, for two CPU cores",
        "not measured yet",
    ),
    "small": Recipe(
        _SMALL,
        "our own: MoCo v2 for a folder of a few thousand images, and a queue of a quarter of them",
        "scaled down, 10 epochs of 5,000 images of CIFAR-10: kNN top-1 32.6, plain moco-v2 26.1, "
        "untrained 23.3 (docs/results.md); not measured at its own size",
    ),
    "shapes": Recipe(
        _SHAPES,
        "our own: drawn shapes, so that a first run needs no data",
        "kNN top-1 65.6, untrained 29.1, raw pixels 40.1 (seed 0; 160 s on 2 slow CPU cores)",
    ),
}
RECIPES = {
    name: replace(recipe, config=recipe.config.model_copy(update={"recipe": name}))
    for name, recipe in _RECIPES.items()
}
