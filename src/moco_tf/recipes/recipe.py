"""What a recipe is."""

from dataclasses import dataclass

from moco_tf.config import Config


@dataclass(frozen=True)
class Recipe:
    """A config with its source and the result that its authors report."""

    config: Config
    source: str
    expect: str
