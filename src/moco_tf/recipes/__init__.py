"""RECIPES: name -> a complete config, where it comes from and what to expect of it."""

from dataclasses import replace

from moco_tf.config import Config
from moco_tf.recipes.recipe import Recipe
from moco_tf.recipes.v3 import V3_RECIPES

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
        "group_size": 16,
        "group_layout": "contiguous",
        "queue_size": 512,
        "batch_size": 64,
        "epochs": 8,
        "learning_rate": 0.12,
        "first_epoch": 0,
        "knn_every": 4,
        "precision": "auto",
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
        "precision": "auto",
    }
)
_OFFICIAL = "facebookresearch/moco, commit 7397dfe"

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
    **V3_RECIPES,
    "small": Recipe(
        _SMALL,
        "our own: MoCo v2 for a folder of a few thousand images, and a queue of a quarter of them",
        "scaled down, 10 epochs of 5,000 images of CIFAR-10: kNN top-1 32.6, plain moco-v2 26.1, "
        "untrained 23.3 (docs/results.md); not measured at its own size",
    ),
    "shapes": Recipe(
        _SHAPES,
        "our own: drawn shapes, so that a first run needs no data",
        "kNN top-1 65.4 on 2 cores with AVX-512 (66.2 in bfloat16), 63.4 without; untrained 29.2, "
        "raw pixels 40.1 (seed 0)",
    ),
}
RECIPES = {
    name: replace(recipe, config=recipe.config.model_copy(update={"recipe": name}))
    for name, recipe in _RECIPES.items()
}
