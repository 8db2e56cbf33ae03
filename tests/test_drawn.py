"""The draws of a view by name: Pillow makes the same view of them."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from support.views import views_of

from moco_tf.augmentation import View
from moco_tf.augmentation.named import view_pair
from moco_tf.data.drawn import Drawn, drawn_for, drawn_lines
from moco_tf.data.order import epoch_order
from moco_tf.data.sources import from_arrays

COUNT, SIDE, SEED = 12, 24, 5
ALL = {
    "crop": {"min_area": 0.3},
    "jitter": {"probability": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},  # noqa: E501
    "gray": 0.3,
    "blur": {"probability": 0.5, "sigma": [0.1, 2.0]},
    "solarize": {"probability": 0.3, "threshold": 100},
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "quarter_turns": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, so that a rounding of Pillow's stays small."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (COUNT, 5, 6, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((50, 40))) for one in small]
    return from_arrays("test", np.stack(large))


def by_pillow(pixels, drawn, order):
    """The view that the names tell, by torchvision's operations on Pillow's images."""
    top, left, height, width = drawn.crop
    part = Image.fromarray(pixels[top : top + height, left : left + width])
    image = part.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    steps = {
        "jitter": lambda x: jittered(x, drawn.jitter) if drawn.jitter else x,
        "gray": lambda x: x.convert("L").convert("RGB") if drawn.gray else x,
        "blur": lambda x: x.filter(ImageFilter.GaussianBlur(drawn.blur)) if drawn.blur else x,
        "solarize": lambda x: ImageOps.solarize(x, drawn.solarize) if drawn.solarize else x,
    }
    for name in order:
        image = steps[name](image)
    array = np.asarray(image)
    array = array[:, ::-1] if drawn.horizontal_flip else array
    array = array[::-1] if drawn.vertical_flip else array
    return np.rot90(array, drawn.quarter_turns)


def jittered(image, factors):
    made = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast}
    made["saturation"] = ImageEnhance.Color
    for name, factor in factors.items():
        if name == "hue":
            h, s, v = image.convert("HSV").split()
            shift = np.array(int(np.float32(factor) * 255)).astype(np.uint8)
            turned = Image.fromarray(np.asarray(h) + shift)
            image = Image.merge("HSV", (turned, s, v)).convert("RGB")
        else:
            image = made[name](image).enhance(factor)
    return image


@pytest.mark.parametrize(
    "order",
    [
        "jitter gray blur solarize",
        pytest.param("blur solarize gray jitter", marks=pytest.mark.slow),
    ],
)
def test_pillow_makes_the_same_view_of_the_named_draws(images, order):
    view = View.model_validate(ALL | {"order": order.split()})
    views = next(iter(views_of(images, view, SIDE, batch_size=COUNT, seed=SEED)))
    places, done = epoch_order(SEED, 0, COUNT), []
    for position, place in enumerate(places):
        for number in (0, 1):
            pixels = images.pixels[place]
            of_run = {"seed": SEED, "position": position, "number": number}
            drawn = drawn_for(view, pixels.shape[:2], **of_run)
            wrong = by_pillow(pixels, drawn, view.order) != views[number][position].numpy()
            assert wrong.mean() < 0.02, (position, number, drawn)
            done.append(drawn)
    for name in ("jitter", "gray", "blur", "solarize", "horizontal_flip", "quarter_turns"):
        assert {bool(getattr(drawn, name)) for drawn in done} == {True, False}, name


def test_draws_of_simclrs_family_have_its_own_window(images):
    view, _ = view_pair("simclr", 0.08, 1.0)
    drawn = drawn_for(view, (40, 50), seed=SEED, position=3, number=1)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        [40, 50, 3], [[[0.0, 0.0, 1.0, 1.0]]], [SEED, 7], min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )  # fmt: skip
    assert drawn.crop == (*begin[:2].numpy(), *size[:2].numpy())


def test_the_words_are_in_the_order_in_which_things_are_done():
    view = View.model_validate(ALL | {"order": ["blur", "gray", "jitter", "solarize"]})
    factors = {"hue": -0.05, "contrast": 1.25}
    drawn = Drawn((2, 3, 10, 20), factors, False, 1.5, 100, True, False, 3)
    assert drawn_lines(view, drawn, (20, 40)) == [
        "crop 20 x 10 at (3, 2), 25% of the image",
        "blur, sigma 1.50",
        "jitter: hue -0.050, contrast x 1.25",
        "solarize from 100 on",
        "flip left to right",
        "turned by 270 degrees",
        "no gray",
    ]
