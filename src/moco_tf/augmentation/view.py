"""What makes a view of an image, as data. Probabilities are from 0 to 1.

`data/augment/` does what is described here.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from moco_tf.errors import near_name

Operation = Literal["jitter", "gray", "blur", "solarize"]
MAX_SIGMA = 32.0  # pixels


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not yes or no; received {str(value).lower()}.")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Strength = Annotated[Number, Field(ge=0)]
Area = Annotated[Number, Field(gt=0, le=1)]
Sigma = Annotated[Number, Field(ge=0, le=MAX_SIGMA)]
Aspect = Annotated[Number, Field(gt=0)]


class Description(BaseModel):
    """Refuses a name that is unknown, and suggests the one that was meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        for name in values if isinstance(values, Mapping) else ():
            if name not in cls.model_fields:
                near = near_name(name, cls.model_fields) if isinstance(name, str) else None
                hint = f"Did you mean {near}?" if near else f"Known: {', '.join(cls.model_fields)}."
                raise ValueError(f"unknown name {reprlib.repr(name)}. {hint}")
        return values


def _ascending(name: str, pair: tuple[float, float]) -> None:
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must have its smaller number first; received {list(pair)}.")


class Crop(Description):
    """A random part of the image, resized to the view's size.

    Its area is a share of the image's, drawn uniformly; its aspect, width / height, is drawn
    log-uniformly. SimCLR's family draws otherwise. `min_area` None: the config's `crop_min_area`.

    Source: torchvision's RandomResizedCrop.
    """

    min_area: Area | None = None
    max_area: Area = 1.0
    aspect: tuple[Aspect, Aspect] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _check_order(self) -> Crop:
        _ascending("aspect", self.aspect)
        if self.min_area is not None:
            _ascending("min_area, max_area", (self.min_area, self.max_area))
        return self


class Jitter(Description):
    """Brightness, contrast and saturation times 1 - s to 1 + s; hue turned by -s to s (0.5: half).

    The four are done in an order drawn for each view.
    """

    probability: Probability = 1.0
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[Number, Field(ge=0, le=0.5)] = 0.0

    @property
    def strengths(self) -> tuple[float, float, float, float]:
        return self.brightness, self.contrast, self.saturation, self.hue


class Blur(Description):
    """Gaussian blur, of a standard deviation drawn uniformly, pixels of the view."""

    probability: Probability = 1.0
    sigma: tuple[Sigma, Sigma] = (0.1, 2.0)

    @model_validator(mode="after")
    def _check_order(self) -> Blur:
        _ascending("sigma", self.sigma)
        return self


class Solarize(Description):
    """Grey levels from `threshold` on are inverted: v becomes 255 - v."""

    probability: Probability = 1.0
    threshold: Annotated[int, BeforeValidator(_number), Field(ge=0, le=256)] = 128


class View(Description):
    """All that is done to an image to make one view of it. Only the crop is done by default.

    `order` is that of the operations on colours; those that are not given are left out. Flips and
    the quarter turn come last: a flip commutes exactly with all the others. `family` is whose
    operations these are: torchvision's on 8-bit images, as in MoCo, or SimCLR's in floating point.
    SimCLR's also has a crop of its own, and flips left to right first.
    """

    family: Literal["torchvision", "simclr"] = "torchvision"
    crop: Crop = Crop()
    jitter: Jitter | None = None
    gray: Probability = 0.0
    blur: Blur | None = None
    solarize: Solarize | None = None
    order: tuple[Operation, ...] = get_args(Operation)
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    quarter_turns: bool = Field(False, description="turned by 0, 90, 180 or 270 degrees alike")

    @model_validator(mode="after")
    def _check_operations(self) -> View:
        twice = [name for name in self.order if self.order.count(name) > 1]
        if twice:
            raise ValueError(f"order names {twice[0]} twice. Name each operation once.")
        missing = [n for n in get_args(Operation) if getattr(self, n) and n not in self.order]
        if missing:
            raise ValueError(f"order leaves {missing[0]} out, which is given. Name it there.")
        return self

    @property
    def operations(self) -> list[Operation]:
        """The operations on colours that are done, in order."""
        return [name for name in self.order if getattr(self, name)]
