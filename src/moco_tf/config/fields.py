"""The fields of a pre-training run, a class for each group.

Every default is MoCo v1's, spec 1.1. `Config` puts the groups together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moco_tf.augmentation.named import Name, TwoViews
from moco_tf.augmentation.view import View
from moco_tf.config.folder import FolderConfig
from moco_tf.names.encoder import KERAS, RESNETS


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
    image_size: int = Field(224, ge=8, le=8192, description="side of a training crop, pixels")
    augmentation: Name | View | TwoViews = Field(
        "v1", description="what makes a view: a name, or a description of one's own in a YAML file"
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
        description="where colour, blur and flip run, and with device_resize, for images of up to "
        "2.5 crops a side, the resizing; auto: a GPU, and small images of one size on any device",
    )
    normalization: Literal["imagenet", "cifar10", "none", "pixels"] = Field(
        "imagenet",
        description="mean and standard deviation taken off the pixels; none: 0 to 1, pixels: 0 to "
        "255, as a backbone gets them that has its own preprocessing",
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
        description=f"backbone: a ResNet, {KERAS}NAME of keras.applications, or FILE.keras",
        examples=list(RESNETS),  # offered by the help and by completion
    )
    pretrained: bool = Field(
        False, description="begin with Keras's weights of ImageNet (encoder keras:NAME only)"
    )
    architecture: str | None = Field(
        None, description="Keras's JSON of a backbone that is not one of the ResNets"
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
    head: Literal["linear", "mlp", "none"] = Field(
        "linear", description="projection head (none: a converted backbone, not to be pre-trained)"
    )
    dim: int = Field(128, ge=2, description="dimensions of the compared features")
    group_size: int = Field(32, ge=2, description="images per BatchNorm group (ShuffleBN)")
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

    queue_size: int = Field(65536, ge=1, description="keys in the queue (K)")
    key_momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder (m)")
    temperature: float = Field(0.07, gt=0, description="temperature of the softmax (T)")
    symmetric: bool = Field(False, description="let each view be query and key in turn")


class OptimisationFields(FolderConfig):
    """How the network is trained."""

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
    sgd_momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="decay added to every gradient")


class MachineFields(FolderConfig):
    """Where the run computes, and how."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything random")
    devices: int | None = Field(
        None, ge=1, description="GPUs, or virtual CPU devices; none: all GPUs, or one CPU"
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        description="microbatches of a device's batch, one after another: less memory, same step",
    )
    recompute: bool = Field(
        False, description="compute activations again in the backward pass: less memory, same step"
    )
    worker_timeout: float = Field(
        1800, gt=0, description="seconds that one of several workers may keep the others waiting"
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "float64"] = Field(
        "float32", description="arithmetic of the encoders (float64: slow, to compare runs)"
    )
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        description="compile the encoders with XLA (on or off); auto: off, the faster on a CPU",
    )


class RunFields(FolderConfig):
    """What the run keeps, and how it is watched."""

    run_dir: str | None = Field(
        None, min_length=1, description="folder of the run; none: runs/RECIPE"
    )
    max_steps: int | None = Field(None, ge=0, description="stop after this many steps in all")
    log_every: int = Field(10, ge=1, description="steps between two logging points")
    checkpoint_every: int = Field(
        1000, ge=1, description="steps between two checkpoints (and at each end of an epoch)"
    )
    preemption_seconds: float = Field(
        25, gt=0, description="seconds from SIGTERM until the process is gone, saved if that fits"
    )
    knn_every: int = Field(
        1, ge=0, description="epochs between two evaluations; 0: only at the end"
    )
    knn_k: int = Field(200, ge=1, description="neighbours that vote in the kNN monitor")
    knn_max_bank: int = Field(
        100_000, ge=1, description="labelled images that the kNN monitor searches, at most"
    )
    knn_max_queries: int = Field(
        10_000, ge=1, description="images that the kNN monitor classifies, at most"
    )
    knn_temperature: float = Field(0.1, gt=1e-6, description="temperature of the kNN votes")
    knn_features: Literal["projection", "pooled"] = Field(
        "projection", description="features that the kNN monitor compares"
    )

    track: Literal["wandb", "mlflow"] | None = Field(
        None, description="experiment tracker beside TensorBoard (an extra of its name); none: none"
    )
