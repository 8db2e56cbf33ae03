"""What a fine-tuning is, as one frozen, validated object. Imports no TensorFlow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from moco_tf.config import RUNTIME_FIELDS, FolderConfig
from moco_tf.config.batch_groups import check_batch, check_devices
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
    epochs: int = Field(50, ge=1, description="passes over the training images used")
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
    weight_decay: float = Field(1e-4, ge=0, description="decay added to every gradient")
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
        return self

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
    def out(self) -> Path:
        """Folder of the results."""
        if self.run_dir is not None:
            return Path(self.run_dir)
        start = "-scratch" if self.from_scratch else ""
        share = "" if self.label_fraction == 1 else f"-{self.label_fraction:g}"
        return result_folder(self.run, f"finetune{start}{share}")
