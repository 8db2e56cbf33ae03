"""What a pre-training run is, as one frozen, validated object. Imports no TensorFlow."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from moco_tf.augmentation.named import (
    Name,
    TwoViews,
    decided_fields,
    read_augmentation,
    view_pair,
)
from moco_tf.augmentation.view import View
from moco_tf.batch_groups import check_accumulation, check_batch, check_devices
from moco_tf.data_names import is_there
from moco_tf.encoder_names import KERAS, RESNETS, check_encoder
from moco_tf.errors import InputError, near_name

MOST = 2**31 - 1  # of any whole number in a config
_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 200, 200, 2

# A run may be resumed with other values of these fields. They change where or how long it runs, not
# what it computes (except for rounding).
RUNTIME_FIELDS = frozenset(
    {
        "run_dir",
        "devices",
        "worker_timeout",
        "accumulation_steps",
        "recompute",
        "xla",
        "max_steps",
        "log_every",
        "checkpoint_every",
        "preemption_seconds",
        "knn_every",
        "track",
        "max_bad_images",
        "max_small_images",
        "data_path",
    }
)

# Fields that a run records for itself, and no flag gives. They are compared where they are given.
RECORDED_FIELDS = frozenset(
    {"data_path", "init_sha256", "earlier_schedules", "augment_function", "architecture"}
)


class FolderConfig(BaseModel):
    """A config that a folder of results is kept for, and may be continued with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    runtime_fields: ClassVar[frozenset[str]] = RUNTIME_FIELDS
    growing_fields: ClassVar[frozenset[str]] = frozenset()  # may be more than in the folder
    recorded_fields: ClassVar[frozenset[str]] = frozenset()
    folder_flag: ClassVar[str] = "--run-dir"  # the option that names the folder

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, values: Any) -> Any:
        """No field is counted in more than 32 bits."""
        for name, value in values.items() if isinstance(values, dict) else ():
            several = value if isinstance(value, (list, tuple)) else (value,)
            if any(isinstance(one, int) and abs(one) > MOST for one in several):
                raise ValueError(
                    f"{name} must be at most {MOST}; received {name}={short_repr(value)}."
                )
        return values


AnyConfig = TypeVar("AnyConfig", bound=FolderConfig)


class Config(FolderConfig):
    """A complete description of a pre-training run (every default is MoCo v1's, spec 1.1).

    Changed copies of a recipe's config keep its name: `make_config(RECIPES["small"].config, ...)`.
    """

    growing_fields: ClassVar[frozenset[str]] = frozenset({"epochs", "earlier_schedules"})
    recorded_fields: ClassVar[frozenset[str]] = RECORDED_FIELDS

    recipe: str = Field("custom", description="name of the recipe this started from; custom: none")

    # Data
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

    # Encoder
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

    # Method
    queue_size: int = Field(65536, ge=1, description="keys in the queue (K)")
    key_momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder (m)")
    temperature: float = Field(0.07, gt=0, description="temperature of the softmax (T)")
    symmetric: bool = Field(False, description="let each view be query and key in turn")

    # Optimisation
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

    # Machine
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

    # Run
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

    @model_validator(mode="before")
    @classmethod
    def _check_recipe(cls, values: Any, info: ValidationInfo) -> Any:
        """A name alone brings no settings. A whole config may carry one, and so may an old file."""
        values = _without_mask(values) if isinstance(values, dict) else values
        named = isinstance(values, dict) and "recipe" in values
        if named and info.mode == "python" and not cls.model_fields.keys() <= values.keys():
            raise ValueError(_only_a_name(values["recipe"]))
        return values

    @field_validator("xla", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """YAML reads a bare on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("augmentation", mode="before")
    @classmethod
    def _read_augmentation(cls, value: Any) -> Any:
        return read_augmentation(value)

    @model_validator(mode="after")
    def _check_consistency(self) -> Config:
        sizes = self.batch_size, self.group_size
        devices, microbatches = self.devices or 1, self.accumulation_steps
        check_batch(*sizes, devices, microbatches)
        check_devices(*sizes, devices, accumulation_steps=microbatches)
        check_accumulation(*sizes, devices, microbatches)
        for view in self.views:
            if self.augment_on.startswith("device") and view.family == "simclr":
                raise ValueError(
                    f"augment_on must be host or auto with augmentation=simclr; received "
                    f"augment_on={self.augment_on}."
                )
            if (view.crop.min_area or 0) > view.crop.max_area:
                raise ValueError(
                    f"crop_min_area must be at most the augmentation's crop.max_area, "
                    f"{view.crop.max_area:g}; received crop_min_area={self.crop_min_area:g}. Give "
                    f"it a crop.min_area of its own."
                )
        check_encoder(self.encoder)
        if self.pretrained and not self.encoder.startswith(KERAS):
            raise ValueError(
                f"pretrained needs an encoder {KERAS}NAME; received encoder={self.encoder}. Use "
                f"--init for the weights of a run."
            )
        if self.pretrained and self.init:
            raise ValueError("pretrained and init are both weights to begin with. Leave one out.")
        if self.recompute and not self.is_resnet:
            raise ValueError(
                f"recompute needs one of the ResNets; received encoder={self.encoder}. Use "
                f"--accumulation-steps for less memory."
            )
        if self.is_resnet and self.stem == "imagenet" and self.image_size < 32:
            raise ValueError(
                f"image_size must be at least 32 with stem=imagenet; received image_size="
                f"{self.image_size}. Use --stem small."
            )
        return self

    @property
    def views(self) -> tuple[View, View]:
        """What makes view 1 and view 2, with nothing left open."""
        return view_pair(self.augmentation, self.crop_min_area, self.color_strength)

    @property
    def is_resnet(self) -> bool:
        """Whether the encoder is one of ours, which `width` and `stem` apply to."""
        return self.encoder in RESNETS

    @property
    def encoder_fields(self) -> dict[str, Any]:
        """What the results of other commands tell of the encoder."""
        own = {"width": self.width, "stem": self.stem} if self.is_resnet else {}
        known = {"encoder": self.encoder, "width": None, "stem": None, "head": self.head}
        return known | own

    @property
    def folder(self) -> str:
        """Run folder, or its URL."""
        return self.run_dir or f"runs/{self.recipe}"

    @property
    def smallest_image(self) -> int:
        """Side of the smallest images that the encoder takes, pixels."""
        return 32 if self.is_resnet and self.stem == "imagenet" else 8

    @property
    def scaled_learning_rate(self) -> float:
        """Learning rate of the first step: `learning_rate`, times batch_size / 256 if linear."""
        if self.lr_scaling == "absolute":
            return self.learning_rate
        return self.learning_rate * self.batch_size / 256


def data_from_here(config: Config) -> str:
    """Returns the data of a run: as it was given, or where it last was if that leads nowhere."""
    last = config.data_path
    return last if last and not is_there(config.data) and is_there(last) else config.data


def make_config(base: AnyConfig, changes: Mapping[str, Any]) -> AnyConfig:
    """Returns `base` with `changes` (field name to value, text allowed).

    Raises:
        InputError: for an unknown field or a value of the wrong type or range, in one line.
    """
    known = type(base).model_fields
    changes = _without_mask(changes)
    for name in changes:
        if name not in known:
            near = near_name(name, known)
            hint = f"Did you mean {near}?" if near else f"Known fields: {', '.join(sorted(known))}."
            raise InputError(f"unknown field {short_repr(name)}. {hint}")
    own = getattr(base, "recipe", None)
    if changes.get("recipe", own) != own:
        raise InputError(_only_a_name(changes["recipe"]))
    changed = {name: _from_text(name, known[name], value) for name, value in changes.items()}
    try:
        config = type(base).model_validate(base.model_dump() | changed)
    except ValidationError as error:
        raise InputError(_one_line(error)) from None
    if isinstance(config, Config) and not known.keys() <= changes.keys():  # no whole config
        for name in set(decided_fields(config.augmentation)) & changes.keys():
            raise InputError(
                f"{name}={changes[name]} has no effect: the augmentation describes that itself. "
                f"Leave {name} out, or change the description."
            )
    return config


def _without_mask(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out a field of earlier versions; raises `InputError` if it is on."""
    if values.get("mask_same_image", False) not in (False, "false"):
        raise InputError(
            "mask_same_image is no longer offered. A run that has it on is read by the version "
            "that wrote it, which its versions.json names."
        )
    return {name: value for name, value in values.items() if name != "mask_same_image"}


def _only_a_name(recipe: Any) -> str:
    return (
        f"recipe={short_repr(recipe)} would be a name without its settings. Start from the recipe: "
        f"moco_tf.recipes.RECIPES[{short_repr(recipe)}].config, changed with "
        f"moco_tf.config.make_config."
    )


def _from_text(name: str, field: Any, value: Any) -> Any:
    """Reads what pydantic would not: `none`, and comma-separated lists. YAML's yes is no number."""
    kinds = [field.annotation, *get_args(field.annotation)]
    several = tuple in [get_origin(kind) for kind in kinds]
    if isinstance(value, bool) and bool not in kinds and "off" not in get_args(field.annotation):
        raise InputError(f"{name} takes no yes or no; received {name}={value}.")
    if several and isinstance(value, (int, float)):
        return (value,)
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "null") and field.default is None:
        return None
    if several:
        return tuple(part for part in value.replace(" ", "").split(",") if part)
    return value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"] or first["type"] == "value_error":  # a sentence of our own
        return str(first["msg"]).removeprefix("Value error, ")
    name = first["loc"][0]
    return f"{name}: {first['msg']}; received {name}={short_repr(first['input'])}."


def short_repr(value: Any) -> str:
    """The `repr` of a value, shortened: what a file holds may be endless, or too long a number."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to be shown"


def describe_encoder(fields: Mapping[str, Any]) -> str:
    """What `Config.encoder_fields` say of the backbone, as a clause."""
    if fields["width"] is None:
        return f"backbone {fields['encoder']}"
    return f"{fields['encoder']}, width {fields['width']}, {fields['stem']} stem"
