"""What a fine-tuning is, as one frozen, validated object. Imports no TensorFlow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from moco_tf.config import RUNTIME_FIELDS, Config, FolderConfig
from moco_tf.config.batch_groups import check_batch, check_devices
from moco_tf.errors import InputError
from moco_tf.evaluate.probe_config import result_folder
from moco_tf.names.encoder import ALL

PRETRAINED_LR, SCRATCH_LR = 0.02, 0.1  # of the backbone, for a batch of 256
GROUP_OF_ALL = 32  # images per BatchNorm group, after a run whose whole batch was one


class FinetuneConfig(FolderConfig):
    """A complete description of a fine-tuning: backbone and classifier are trained together."""

    runtime_fields: ClassVar[frozenset[str]] = RUNTIME_FIELDS | {"run"}
    folder_flag: ClassVar[str] = "--out"

    run: str = Field(description="run folder of the encoder")
    data: str | None = Field(None, description="labelled images; none: the run's own")
    split: Literal["val", "test"] | None = Field(
        None, description="part of the data to judge on; none: val if there is one, or else test"
    )
    from_scratch: bool = Field(
        False, description="train the run's architecture from random weights, to compare with"
    )
    label_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images used, the same of each class"
    )
    recipe: Literal["plain", "deit"] = Field(
        "plain", description="what fields begin with: crops, flips and SGD, or DeiT's settings"
    )
    epochs: int = Field(50, ge=1, description="passes over the training images used")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="what takes the steps")
    lr: float | None = Field(
        None,
        gt=0,
        description=f"rate of the backbone; none: {PRETRAINED_LR:g}, from scratch {SCRATCH_LR:g}",
    )
    head_lr: float = Field(0.2, gt=0, description="learning rate of the classifier")
    lr_scaling: Literal["linear", "absolute"] = Field(
        "linear", description="scale both rates by batch_size / 256, or take them as they are"
    )
    batch_size: int = Field(256, ge=2, description="images per step, over all devices")
    group_size: int | None = Field(
        None, ge=2, description="images per BatchNorm group; none: the run's, or 32 if that is all"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(
        1e-4, ge=0, description="decay of all parameters (adamw: of kernels alone)"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs in which the rates rise in a line")
    warmup_lr: float = Field(0.0, ge=0, description="rate that the warm-up begins with, not scaled")
    min_lr: float = Field(0.0, ge=0, description="rate that the cosine ends with, not scaled")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the rate from each block or stage to the one before; usual after "
        "pre-training: 0.65 to 0.75",
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="of a ViT: chance that the last block is passed over; 0 for the first",
    )
    rand_augment: float | None = Field(
        None,
        gt=0,
        le=10,
        description="magnitude of RandAugment: two of 15 operations, each half the time, with a "
        "strength of N(magnitude, 0.5) of 10; none: none of it",
    )
    mixup: float = Field(
        0.0, ge=0, description="alpha of mixup, of a batch with its own reverse; 0: none of it"
    )
    cutmix: float = Field(
        0.0, ge=0, description="alpha of cutmix; beside mixup, for half of the batches; 0: none"
    )
    random_erasing: float = Field(
        0.0, ge=0, le=1, description="chance that 2 to 33 % of an image, a rectangle, become noise"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that all classes get alike"
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="filter that training crops are resized with"
    )
    crop_min_area: float = Field(
        0.08, gt=0, le=1, description="smallest crop, as a fraction of the image's area"
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="arithmetic of the network"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of choice, order, crops, first weights")
    devices: int | None = Field(
        None, ge=1, description="GPUs, or virtual CPU devices; none: all GPUs, or one CPU"
    )
    run_dir: str | None = Field(
        None, description="folder of the results; none: finetune[-scratch][-FRACTION]/ in RUN"
    )
    max_bad_images: float = Field(
        0.01, ge=0, le=1, description="largest share of unreadable files to skip before refusing"
    )
    log_every: int = Field(10, ge=1, description="steps between two logging points")
    checkpoint_every: int = Field(
        1000, ge=1, description="steps between two checkpoints (and at each end of an epoch)"
    )
    preemption_seconds: float = Field(
        25, gt=0, description="seconds from SIGTERM until the process is gone, saved if that fits"
    )

    @model_validator(mode="after")
    def _check_groups(self) -> FinetuneConfig:
        if self.group_size is not None:
            self.check_group_size(self.group_size)
        if self.optimizer == "adamw" and self.momentum != 0.9:
            raise ValueError(
                f"momentum has no effect with optimizer=adamw; received momentum="
                f"{self.momentum:g}. Leave it out."
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be less than epochs={self.epochs}; received warmup_epochs="
                f"{self.warmup_epochs}. Use --warmup-epochs {self.epochs // 10}."
            )
        if self.warmup_lr and not self.warmup_epochs:
            raise ValueError(
                f"warmup_lr has no effect without a warm-up; received warmup_lr="
                f"{self.warmup_lr:g}. Use --warmup-epochs, or leave it out."
            )
        return self

    def check_encoder(self, pretraining: Config) -> None:
        """Raises `InputError` for fields that the encoder has nothing for."""
        if self.drop_path and not pretraining.is_vit:
            raise InputError(
                f"drop_path is of ViTs; received drop_path={self.drop_path:g} with encoder="
                f"{pretraining.encoder}. Use --drop-path 0."
            )
        if self.layer_decay < 1 and not pretraining.is_ours:
            raise InputError(
                f"layer_decay is of ResNets and ViTs; received layer_decay={self.layer_decay:g} "
                f"with encoder={pretraining.encoder}. Use --layer-decay 1."
            )

    def groups_like(self, group_size: int | Literal["all"]) -> int:
        """Images per BatchNorm group, where the pre-training run had `group_size`."""
        if self.group_size is not None:
            return self.group_size
        if group_size != ALL:
            return group_size
        fits = math.gcd(self.batch_size, GROUP_OF_ALL)
        return fits if fits > 1 else self.batch_size

    def check_group_size(self, group_size: int) -> None:
        """Raises `InputError` unless the batch consists of whole groups, evenly on the devices."""
        check_batch(self.batch_size, group_size, self.devices or 1)
        if self.devices is not None:
            check_devices(self.batch_size, group_size, self.devices)

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of backbone and classifier at the first step."""
        backbone = self.lr or (SCRATCH_LR if self.from_scratch else PRETRAINED_LR)
        scale = self.batch_size / 256 if self.lr_scaling == "linear" else 1.0
        return backbone * scale, self.head_lr * scale

    @property
    def mixes(self) -> bool:
        """Whether labels are shares of classes, not one class each."""
        return bool(self.mixup or self.cutmix or self.label_smoothing)

    @property
    def out(self) -> Path:
        """Folder of the results."""
        if self.run_dir is not None:
            return Path(self.run_dir)
        start = "-scratch" if self.from_scratch else ""
        share = "" if self.label_fraction == 1 else f"-{self.label_fraction:g}"
        return result_folder(self.run, f"finetune{start}{share}")


def finetune_recipe(name: Any) -> FinetuneConfig:
    """Returns the config that a recipe begins with; another name is refused with the fields."""
    return _RECIPES["deit" if name == "deit" else "plain"]


_RECIPES = {
    "plain": FinetuneConfig(run=""),
    "deit": FinetuneConfig(  # spec 5.8; a rate for 512 images there, for 256 here
        run="",
        recipe="deit",
        epochs=300,
        optimizer="adamw",
        lr=2.5e-4,
        head_lr=2.5e-4,
        batch_size=1024,
        weight_decay=0.05,
        warmup_epochs=5,
        warmup_lr=1e-6,
        min_lr=1e-5,
        drop_path=0.1,
        rand_augment=9.0,
        mixup=0.8,
        cutmix=1.0,
        random_erasing=0.25,
        label_smoothing=0.1,
        interpolation="bicubic",
    ),
}
