"""What a linear probe is, as one frozen, validated object. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from moco_tf.config import RUNTIME_FIELDS, Config, FolderConfig
from moco_tf.config.method import V3
from moco_tf.errors import InputError

DROPS = (0.6, 0.8)  # of the epochs: 60 and 80 of the official 100

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ProbeConfig(FolderConfig):
    """A complete description of a linear probe.

    Every default is the official one of v1 and v2, spec 4; `official_probe` gives those of v3.
    """

    runtime_fields: ClassVar[frozenset[str]] = RUNTIME_FIELDS | {"run"}
    folder_flag: ClassVar[str] = "--out"

    run: str = Field(description="run folder of the encoder")
    data: str | None = Field(None, description="labelled images; none: the run's own")
    split: Literal["val", "test"] | None = Field(
        None, description="part of the data to judge on; none: val if there is one, or else test"
    )
    epochs: int = Field(100, ge=1, description="passes over the training images; after MoCo v3: 90")
    lr: tuple[Rate, ...] = Field(
        (30.0,),
        min_length=1,
        description="learning rates, one classifier each; after MoCo v3: 0.1, or 3 for a ViT",
    )
    lr_scaling: Literal["linear", "absolute"] = Field(
        "absolute",
        description="scale the rates by batch_size / 256, or take them as they are; after MoCo v3: "
        "linear",
    )
    schedule: Literal["step", "cosine"] = Field(
        "step",
        description="drops at the milestones, or a cosine that moves once an epoch; after MoCo v3: "
        "cosine",
    )
    milestones: tuple[int, ...] | None = Field(
        None, description="epochs at which the rate drops to a tenth; none: 0.6 and 0.8 of epochs"
    )
    batch_size: int = Field(
        256, ge=1, description="images per step, over all devices; after MoCo v3: 1024"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of order, crops and first weights")
    devices: int | None = Field(
        None, ge=1, description="GPUs, or virtual CPU devices; none: all GPUs, or one CPU"
    )
    run_dir: str | None = Field(None, description="folder of the results; none: probe/ in RUN")
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
    def _check_rates(self) -> ProbeConfig:
        twice = _first_repeated(self.lr)
        if twice is not None:
            raise ValueError(f"lr must not hold a rate twice; received {twice:g} twice.")
        if self.schedule == "cosine" and self.milestones is not None:
            raise ValueError(
                f"milestones has no effect with schedule=cosine; received milestones="
                f"{','.join(map(str, self.milestones))}. Leave it out, or use --schedule step."
            )
        if self.devices is not None:
            self.check_devices(self.devices)
        return self

    def check_devices(self, devices: int) -> None:
        """Raises `InputError` unless the batch spreads evenly over `devices`."""
        if self.batch_size % devices:
            raise InputError(
                f"devices must divide batch_size={self.batch_size}; received devices={devices}. "
                f"Use --batch-size {-(-self.batch_size // devices) * devices}."
            )

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates of the classifiers at the first step."""
        scale = self.batch_size / 256 if self.lr_scaling == "linear" else 1.0
        return tuple(rate * scale for rate in self.lr)

    @property
    def drops(self) -> tuple[int, ...]:
        """Epochs from which one more drop of the rate applies."""
        if self.milestones is not None:
            return self.milestones
        return tuple(round(share * self.epochs) for share in DROPS)

    def out(self, quick: bool = False) -> Path:
        """Folder of the results, or of those in closed form."""
        name = "probe-quick" if quick else "probe"
        return Path(self.run_dir or result_folder(self.run, name))


def official_probe(pretraining: Config) -> ProbeConfig:
    """Returns the official protocol for an encoder that was pre-trained so (spec 4 and 5.7)."""
    if pretraining.method != V3:
        return ProbeConfig(run="")
    return ProbeConfig(
        run="",
        epochs=90,
        lr=(3.0 if pretraining.is_vit else 0.1,),
        lr_scaling="linear",
        schedule="cosine",
        batch_size=1024,
    )


# Fields that `probe --quick` uses; the others are of training.
QUICK_FIELDS = ("run", "data", "split", "seed", "run_dir", "max_bad_images")


def check_quick(given: Iterable[str]) -> None:
    """Raises `InputError` if a given field means nothing to the quick probe."""
    for name in given:
        if name not in QUICK_FIELDS:
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"--quick trains nothing and takes no {flag}. Leave one of the two out."
            )


def result_folder(run: str, name: str) -> Path:
    """Folder of results called `name` of the encoder in `run`: in a run folder, or by a file."""
    path = Path(run)
    return path.with_name(f"{path.stem}-{name}") if path.is_file() else path / name


def _first_repeated(values: Iterable[float]) -> float | None:
    seen: set[float] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
