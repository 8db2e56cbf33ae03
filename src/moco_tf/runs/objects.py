"""What a run's config says of objects that Python gave: images, a backbone, a function of views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.names.data import qualified_name, text_of
from moco_tf.names.encoder import GIVEN


def with_objects(config: Config, source: Any, backbone: Any, augment: Any) -> Config:
    """Returns the config that names them; None is an object that was not given."""
    if source is not None:
        config = config.model_copy(update={"data": text_of(source)})
    if augment is not None:
        if not callable(augment):
            raise InputError(
                f"augment must be a function of (image, seed); received a "
                f"{type(augment).__name__}. A name or a description goes to augmentation=."
            )
        config = config.model_copy(update={"augment_function": qualified_name(augment)})
    return config if backbone is None else with_given_model(config)


def with_given_model(config: Config) -> Config:
    """Returns the config of a run whose backbone is a `keras.Model` that Python has."""
    for name in ("recompute", "pretrained"):
        if getattr(config, name):
            raise InputError(f"{name} does not go with backbone=. Leave it out.")
    return config.model_copy(update={"encoder": GIVEN})


def check_augment(config: Config, augment: Callable | None) -> None:
    """Raises `InputError` if the config and the function that makes the views do not agree."""
    name = config.augment_function
    if name and augment is None:
        raise InputError(
            f"augment_function={name}: a function of Python's makes the views of this run. Go on "
            f"with it from Python, with augment={name}."
        )
    if name and config.augment_on.startswith("device"):
        raise InputError(
            f"augment_on must be host or auto with augment={name}; received augment_on="
            f"{config.augment_on}."
        )
