"""The recipes of MoCo v3."""

from moco_tf.config import Config
from moco_tf.recipes.recipe import Recipe

_OFFICIAL_V3 = "arXiv:2104.02057; facebookresearch/moco-v3, commit c349e6e"
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
        "learning_rate": 4.0,  # LARS moves a weight by a thousandth of its norm times the rate
        "precision": "auto",
    }
)
_CIFAR_V3_VIT = _CIFAR_V3.model_copy(
    update={
        "encoder": "vit_tiny",
        "width": 64,
        "stem": "imagenet",
        "patch_size": 4,
        "vit_width": 96,
        "vit_depth": 4,
        "freeze_patch_projection": True,
        "temperature": 0.2,
        "optimizer": "adamw",
        "learning_rate": 5e-4,
        "weight_decay": 0.1,
        "precision": "float32",
    }
)

V3_RECIPES = {
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
        "kNN top-1 46.9 after 5 epochs (untrained 29.7); longer not measured",
    ),
    "cifar10-v3-vit": Recipe(
        _CIFAR_V3_VIT,
        "our own: MoCo v3 with a shallow ViT on CIFAR-10, for two CPU cores",
        "kNN top-1 43.1 after 5 epochs (untrained 34.0); longer not measured",
    ),
}
