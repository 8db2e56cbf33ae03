"""What a pre-training run is, as one frozen, validated object. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ValidationInfo, field_validator, model_validator

from moco_tf.augmentation.named import read_augmentation, view_pair
from moco_tf.augmentation.view import View
from moco_tf.config.batch_groups import (
    check_accumulation,
    check_batch,
    check_devices,
    check_microbatches,
    check_xla,
)
from moco_tf.config.change import make_config, only_a_name, without_mask
from moco_tf.config.fields import (
    DataFields,
    EncoderFields,
    MethodFields,
    OptimisationFields,
)
from moco_tf.config.folder import RUNTIME_FIELDS, AnyConfig, FolderConfig, short_repr
from moco_tf.config.method import V3, check_encoder_fields, check_method
from moco_tf.config.run_fields import MachineFields, RunFields
from moco_tf.names.data import is_there
from moco_tf.names.encoder import ALL, KERAS, RESNETS, VITS, check_encoder, has_batch_norm

__all__ = [
    "RECORDED_FIELDS",
    "RUNTIME_FIELDS",
    "AnyConfig",
    "Config",
    "FolderConfig",
    "data_from_here",
    "describe_encoder",
    "make_config",
    "short_repr",
]

# Fields that a run records for itself, and no flag gives. They are compared where they are given.
RECORDED_FIELDS = frozenset(
    {"data_path", "init_sha256", "earlier_schedules", "augment_function", "architecture", "order"}
)


class Config(RunFields, MachineFields, OptimisationFields, MethodFields, EncoderFields, DataFields):
    """A complete description of a pre-training run (every default is MoCo v1's, spec 1.1).

    Changed copies of a recipe's config keep its name: `make_config(RECIPES["small"].config, ...)`.
    """

    growing_fields: ClassVar[frozenset[str]] = frozenset({"epochs", "earlier_schedules"})
    recorded_fields: ClassVar[frozenset[str]] = RECORDED_FIELDS

    @model_validator(mode="before")
    @classmethod
    def _check_recipe(cls, values: Any, info: ValidationInfo) -> Any:
        """A name alone brings no settings. A whole config may carry one, and so may an old file."""
        values = without_mask(values) if isinstance(values, dict) else values
        named = isinstance(values, dict) and "recipe" in values
        if named and info.mode == "python" and not cls.model_fields.keys() <= values.keys():
            raise ValueError(only_a_name(values["recipe"]))
        return values

    @field_validator("xla", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """YAML reads a bare on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("group_size", mode="before")
    @classmethod
    def _number_or_all(cls, value: Any) -> Any:
        if isinstance(value, str) and value != ALL and not value.strip().lstrip("-").isdigit():
            raise ValueError(
                f"group_size must be a number of images or all; received group_size="
                f"{short_repr(value)}."
            )
        return value

    @field_validator("augmentation", mode="before")
    @classmethod
    def _read_augmentation(cls, value: Any) -> Any:
        return read_augmentation(value)

    @model_validator(mode="after")
    def _check_consistency(self) -> Config:
        sizes = self.batch_size, self.group_size
        devices, microbatches = self.devices or 1, self.accumulation_steps
        check_batch(*sizes, devices, microbatches)
        if self.method != V3 or has_batch_norm(self.encoder):
            check_microbatches(*sizes, devices, microbatches, self.encoder)
        check_devices(*sizes, devices, accumulation_steps=microbatches)
        check_accumulation(*sizes, devices, microbatches)
        check_xla(self.group_size, devices, self.xla)
        check_method(*self._with_defaults())
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
        check_encoder_fields(*self._with_defaults())
        if self.pretrained and not self.encoder.startswith(KERAS):
            raise ValueError(
                f"pretrained needs an encoder {KERAS}NAME; received encoder={self.encoder}. Use "
                f"--init for the weights of a run."
            )
        if self.pretrained and self.init:
            raise ValueError("pretrained and init are both weights to begin with. Leave one out.")
        if self.recompute and not self.is_ours:
            raise ValueError(
                f"recompute needs one of the ResNets or ViTs; received encoder={self.encoder}. Use "
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

    def _with_defaults(self) -> tuple[dict[str, Any], dict[str, Any]]:
        fields = type(self).model_fields
        return dict(self), {name: field.default for name, field in fields.items()}

    @property
    def is_resnet(self) -> bool:
        """Whether the encoder is a ResNet of ours, which `width` and `stem` apply to."""
        return self.encoder in RESNETS

    @property
    def is_vit(self) -> bool:
        """Whether the encoder is a ViT of ours, which `patch_size` and the like apply to."""
        return self.encoder in VITS

    @property
    def is_ours(self) -> bool:
        """Whether the encoder's name is all there is to know of its architecture."""
        return self.is_resnet or self.is_vit

    @property
    def group_images(self) -> int:
        """Images that BatchNorm normalises together."""
        return self.batch_size if self.group_size == ALL else self.group_size

    @property
    def caches_gradients(self) -> bool:
        """Whether the backbone alone takes microbatches, and the heads the whole batch."""
        return self.group_size == ALL and self.accumulation_steps > 1

    @property
    def divisible(self) -> int:
        """What devices divide among them: the BatchNorm groups, or if there is one, its images."""
        return self.batch_size // (1 if self.group_size == ALL else self.group_size)

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
        if self.is_vit:
            return self.patch_size
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


def describe_encoder(fields: Mapping[str, Any]) -> str:
    """What `Config.encoder_fields` say of the backbone, as a clause."""
    if fields["width"] is None:
        return f"backbone {fields['encoder']}"
    return f"{fields['encoder']}, width {fields['width']}, {fields['stem']} stem"
