"""How large the settings in a file of recorded steps may be: a small file could ask for much."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
MOST_BLOCKS = 200  # ResNet-152 has 50
MOST_WEIGHTS = 2**26  # of an encoder that is replayed, about; the file does not hold them all
MOST_VALUES = 2**27  # of the images of a step


def check_size(layers: Sequence[int], width: int, images: int, size: int) -> None:
    """Raises `ValueError` if an encoder or its batch is too large.

    Args:
        layers: blocks of each stage.
        width: of the first; each has twice the one before.
        size: side of the images, pixels.
    """
    weights = sum(18 * blocks * (width * 2**stage) ** 2 for stage, blocks in enumerate(layers))
    if sum(layers) > MOST_BLOCKS:
        raise ValueError(f"layers={tuple(layers)} are more than {MOST_BLOCKS} blocks")
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"layers={tuple(layers)} of width={width} are more than {MOST_WEIGHTS} weights"
        )
    if images * 3 * size**2 > MOST_VALUES:
        raise ValueError(f"{images} images of size={size} are more than {MOST_VALUES} values")
