"""The fields of a pre-training run that say what it computes, a class for each group.

Every default is MoCo v1's, spec 1.1. `Config` puts the groups together, with `run_fields`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moco_tf.augmentation.named import Name, TwoViews
from moco_tf.augmentation.view import View
from moco_tf.config.folder import FolderConfig
from moco_tf.names.encoder import KERAS, OURS


class DataFields(FolderConfig):
    """What the run starts from, where images come from, and what makes views of them."""

    recipe: str = Field("custom", description="name of the recipe this started from; custom: none")
    data: str = Field(
        "shapes",
        min_length=1,
        description="folder of images or several (A,B), LIST.txt of paths, tfrecord:PATTERN, pack "
        "(or its s3:// or gs:// URL), .npz file, cifar10, cifar100, tfds:NAME or shapes",
    )
    data_path: str | None = Field(None, description="where data was last, as an absolute path")
    order: Literal["sorted", "keyed"] = Field(
        "sorted", description="how an epoch is shuffled: by sorting random numbers, or by a cipher"
    )
    image_size: int = Field(224, ge=8, le=8192, description="side of a training crop, pixels")
    augmentation: Name | View | TwoViews = Field(
        "v1", description="what makes a view: a name, or a YAML file with a description of your own"
    )
    augment_function: str | None = Field(
        None, description="qualified name of the Python function that makes the views instead"
    )
    crop_min_area: float = Field(
        0.2,
        gt=0,
        le=1,
        description="smallest crop, as a fraction of the image's area, where the augmentation "
        "does not give its own",
    )
    color_strength: float = Field(
        1.0, ge=0, le=4, description="strength of the jitter (augmentation simclr only)"
    )
    augment_on: Literal["auto", "host", "device", "device_resize"] = Field(
        "auto",
        description="where colour, blur and flip run; device_resize: the resizing too, of images "
        "of up to 2.5 crops a side; auto: a GPU, or any device for small images of one size",
    )
    normalization: Literal["imagenet", "cifar10", "none", "pixels"] = Field(
        "imagenet",
        description="mean and standard deviation that normalise the pixels; none: 0 to 1; pixels: "
        "0 to 255, for a backbone with its own preprocessing",
    )
    max_bad_images: float = Field(
        0.01, ge=0, le=1, description="largest share of unreadable files to skip before refusing"
    )

    max_small_images: float = Field(
        0.5, ge=0, le=1, description="largest share of images smaller than the crop to enlarge"
    )


class EncoderFields(FolderConfig):
    """The network, and the weights that it begins with."""

    encoder: str = Field(
        "resnet50",
        description=f"backbone: a ResNet, a ViT, {KERAS}NAME of keras.applications, or FILE.keras",
        examples=list(OURS),  # offered by the help and by completion
    )
    pretrained: bool = Field(
        False, description="begin with Keras's weights of ImageNet (encoder keras:NAME only)"
    )
    architecture: str | None = Field(
        None, description="Keras's JSON of a backbone that is neither a ResNet nor a ViT of ours"
    )
    width: int = Field(
        64,
        ge=1,
        description="channels of a ResNet's first stage (128 is the paper's ResNet-50 w2x)",
    )
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="of a ResNet: 7x7/2 conv and max-pool, or 3x3/1 conv for small images",
    )
    patch_size: int = Field(16, ge=1, description="side of a ViT's patches, pixels")
    freeze_patch_projection: bool = Field(
        False, description="keep the random projection of a ViT's patches, which steadies training"
    )
    vit_width: int | None = Field(None, ge=4, description="width of a ViT; none: that of its name")
    vit_depth: int | None = Field(None, ge=1, description="blocks of a ViT; none: that of its name")
    head: Literal["linear", "mlp", "v3", "none"] = Field(
        "linear",
        description="projection head (v3: MoCo v3's projector and predictor; none: a converted "
        "backbone, not to be pre-trained)",
    )
    mlp_dim: int = Field(
        4096, ge=1, description="width of the hidden layers of MoCo v3's projector and predictor"
    )
    dim: int = Field(128, ge=2, description="dimensions of the compared features")
    group_size: Annotated[int, Field(ge=2)] | Literal["all"] = Field(
        32, description="images per BatchNorm group (ShuffleBN); all: the whole batch is one"
    )
    group_layout: Literal["contiguous", "interleaved"] = Field(
        "contiguous", description="which images of the batch share a BatchNorm group"
    )
    running_statistics: Literal["first_group", "mean"] = Field(
        "first_group", description="whose statistics BatchNorm keeps for inference"
    )
    init: str | None = Field(
        None,
        min_length=1,
        description="run folder or encoder file whose weights to begin with; none: random ones",
    )
    init_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="digest of the weights of init"
    )


class MethodFields(FolderConfig):
    """What MoCo computes."""

    method: Literal["moco", "moco-v3"] = Field(
        "moco", description="MoCo with a queue (v1 and v2), or MoCo v3, whose negatives are a batch"
    )
    queue_size: int = Field(65536, ge=1, description="keys in the queue (K)")
    key_momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder (m)")
    momentum_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="MoCo v3: keep the key encoder's momentum, or let it rise to 1"
    )
    temperature: float = Field(0.07, gt=0, description="temperature of the softmax (T)")
    symmetric: bool = Field(False, description="let each view be query and key in turn")


class OptimisationFields(FolderConfig):
    """How the network is trained."""

    optimizer: Literal["sgd", "lars", "adamw"] = Field(
        "sgd", description="rule that changes the weights"
    )
    batch_size: int = Field(256, ge=2, description="images per step, over all devices")
    epochs: int = Field(200, ge=1, description="passes over the data")
    learning_rate: float = Field(
        0.03, ge=0, description="learning rate, for a batch of 256 unless lr_scaling is absolute"
    )
    lr_scaling: Literal["linear", "absolute"] = Field(
        "linear", description="scale the learning rate by batch_size / 256, or take it as it is"
    )
    schedule: Literal["step", "cosine"] = Field("step", description="learning-rate schedule")
    milestones: tuple[int, ...] = Field(
        (120, 160), description="epochs at which the step schedule drops the rate (1,2,3)"
    )
    lr_drop: float = Field(0.1, gt=0, le=1, description="factor of each drop")
    schedule_unit: Literal["epoch", "step"] = Field(
        "epoch", description="change the cosine once per epoch, as official, or every step"
    )
    earlier_schedules: tuple[tuple[int, Annotated[int, Field(ge=1)]], ...] = Field(
        (), description="(step, epochs): until this step the cosine was that of so many epochs"
    )
    first_epoch: int = Field(
        0, ge=0, le=1, description="number of the schedule's first epoch: 0, or 1 as the CIFAR demo"
    )
    warmup_epochs: int = Field(
        0, ge=0, description="epochs in which the learning rate rises from 0"
    )
    sgd_momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD and LARS")
    weight_decay: float = Field(
        1e-4,
        ge=0,
        description="decay added to every gradient (lars: not of biases and BatchNorm; adamw: of "
        "the weights themselves)",
    )
