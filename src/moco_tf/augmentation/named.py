"""The augmentations that have a name, and how a name or a description becomes two views."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ValidationError, model_validator

from moco_tf.augmentation.view import Blur, Crop, Description, Jitter, Solarize, View
from moco_tf.errors import near_name

Name = Literal["v1", "v2", "demo", "simclr", "v3", "satellite", "microscopy"]
NAMES: tuple[Name, ...] = get_args(Name)


def _one_view(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    named = NAMED.get(value)
    if not isinstance(named, View):
        single = [name for name, of_both in NAMED.items() if isinstance(of_both, View)]
        raise ValueError(
            f"must be a description or one of {', '.join(single)}; received {reprlib.repr(value)}."
        )
    return named


OneView = Annotated[View, BeforeValidator(_one_view)]


class TwoViews(Description):
    """Views that differ: 1 is the query's, 2 the key's. Each is a `View` or a name."""

    view1: OneView
    view2: OneView

    @model_validator(mode="after")
    def _check_family(self) -> TwoViews:
        if self.view1.family != self.view2.family:
            raise ValueError(
                f"view1 and view2 must be of one family; received {self.view1.family} and "
                f"{self.view2.family}."
            )
        return self


_DEMO = View(
    jitter=Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    gray=0.2,
    horizontal_flip=0.5,
)
_V2 = _DEMO.model_copy(update={"blur": Blur(probability=0.5)})
# MoCo v3 (arXiv:2104.02057), the values of BYOL (arXiv:2006.07733) but for the crop.
_V3 = _DEMO.model_copy(
    update={
        "jitter": Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    }
)
# No side is up in a picture from above, or under a microscope, and a colour means something there.
# TorchGeo's MoCo (torchgeo/trainers/moco.py) flips all its views top to bottom as well; where
# pictures have more than three bands it jitters brightness and contrast (.4) alone.
_FROM_ABOVE = _V2.model_copy(
    update={
        "jitter": Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.05),
        "vertical_flip": 0.5,
        "quarter_turns": True,
    }
)
NAMED: dict[str, View | TwoViews] = {
    "v1": View(
        jitter=Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
        gray=0.2,
        order=("gray", "jitter", "blur", "solarize"),
        horizontal_flip=0.5,
    ),
    "v2": _V2,
    "demo": _DEMO,
    "simclr": View(
        family="simclr",
        crop=Crop(interpolation="bicubic"),
        jitter=Jitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
        gray=0.2,
        blur=Blur(probability=0.5),
        horizontal_flip=0.5,
    ),
    "v3": TwoViews(
        view1=_V3.model_copy(update={"blur": Blur()}),
        view2=_V3.model_copy(
            update={"blur": Blur(probability=0.1), "solarize": Solarize(probability=0.2)}
        ),
    ),
    "satellite": _FROM_ABOVE,
    "microscopy": _FROM_ABOVE.model_copy(update={"gray": 0.0}),
}


def read_augmentation(value: Any) -> str | View | TwoViews:
    """Returns the name as it is, or the description that a mapping or a pair of them gives.

    Raises:
        ValueError: with one line that names the place, the value and the fix.
    """
    if isinstance(value, (View, TwoViews)) or (isinstance(value, str) and value in NAMED):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        value = dict(zip(TwoViews.model_fields, value, strict=True))
    if not isinstance(value, Mapping):
        near = near_name(value, NAMES) if isinstance(value, str) else None
        hint = f"Did you mean {near}?" if near else "--augmentation also takes a .yaml file."
        raise ValueError(
            f"augmentation must be {', '.join(NAMES)} or a description; received augmentation="
            f"{reprlib.repr(value)}. {hint}"
        )
    if not value:
        raise ValueError(
            "augmentation is empty. Describe a view, as in docs/augmentation.md; views that are "
            "cropped alone are {crop: {}}."
        )
    try:
        return (TwoViews if value.keys() & TwoViews.model_fields else View).model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["augmentation", *map(str, first["loc"])])
        if first["type"] == "value_error":
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
        shown = reprlib.repr(first["input"])
        raise ValueError(f"{place}: {first['msg']}; received {place}={shown}.") from None


def view_pair(
    augmentation: str | View | TwoViews, crop_min_area: float, color_strength: float
) -> tuple[View, View]:
    """Returns the descriptions of both views, with nothing left open.

    Args:
        crop_min_area: smallest area of the crops that do not give their own.
        color_strength: times the jitter of the value that is named simclr.
    """
    value = NAMED[augmentation] if isinstance(augmentation, str) else augmentation
    if augmentation == "simclr" and isinstance(value, View) and value.jitter:
        names = ("brightness", "contrast", "saturation", "hue")
        jitter = {name: getattr(value.jitter, name) * color_strength for name in names}
        value = value.model_copy(update={"jitter": value.jitter.model_copy(update=jitter)})
    views = (value.view1, value.view2) if isinstance(value, TwoViews) else (value, value)
    first, second = (
        view
        if view.crop.min_area is not None
        else view.model_copy(
            update={"crop": view.crop.model_copy(update={"min_area": crop_min_area})}
        )
        for view in views
    )
    return first, second


def decided_fields(augmentation: str | View | TwoViews) -> list[str]:
    """Returns the fields of the config that a description decides by itself."""
    if isinstance(augmentation, str):
        return []
    views = view_pair(augmentation, 0.0, 1.0)
    open_area = 0.0 in [view.crop.min_area for view in views]
    return ["color_strength"] if open_area else ["color_strength", "crop_min_area"]
