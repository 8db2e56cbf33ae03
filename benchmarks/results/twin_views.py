"""The augmentations of one picture with Pillow, as torchvision's transforms make them."""

import math
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MEAN = np.array((0.4914, 0.4822, 0.4465), np.float32)
STD = np.array((0.2023, 0.1994, 0.2010), np.float32)
BLENDS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
HUE_STRENGTH = 0.1
# Strengths of brightness, contrast and saturation; probabilities of blur and of solarize.
DEMO = ((0.4, 0.4, 0.4), 0.0, 0.0)
V3 = (((0.4, 0.4, 0.2), 1.0, 0.0), ((0.4, 0.4, 0.2), 0.1, 0.2))  # view 1, view 2


class TwoViews(torch.utils.data.Dataset):
    """Pairs of normalised views, float32 [3, S, S], of the images of one array [N, S, S, 3]."""

    def __init__(self, pixels: np.ndarray, crop_min_area: float, kinds):
        self.pixels, self.crop_min_area, self.kinds = pixels, crop_min_area, kinds

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        image = Image.fromarray(self.pixels[index])
        return tuple(normalized(self._view(image, *kind)) for kind in self.kinds)

    def _view(self, image, strengths, blur, solarize):
        view = random_resized_crop(image, self.crop_min_area)
        if random.random() < 0.5:
            view = ImageOps.mirror(view)
        if random.random() < 0.8:
            view = color_jitter(view, strengths)
        if random.random() < 0.2:
            view = view.convert("L").convert("RGB")
        if blur and random.random() < blur:
            view = view.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2)))
        return ImageOps.solarize(view) if solarize and random.random() < solarize else view


def random_resized_crop(image: Image.Image, min_area: float) -> Image.Image:
    """A random part of the image, resized back to the image's size."""
    width, height = image.size
    for _ in range(10):
        area = width * height * random.uniform(min_area, 1)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = random.randint(0, height - h), random.randint(0, width - w)
            part = image.crop((left, top, left + w, top + h))
            return part.resize(image.size, Image.Resampling.BILINEAR)
    return image  # a square one: the central part of a fitting aspect is all of it


def color_jitter(image: Image.Image, strengths) -> Image.Image:
    """Brightness, contrast, saturation and hue, in a random order."""
    for operation in random.sample(range(4), 4):
        if operation < 3:
            strength = strengths[operation]
            factor = random.uniform(1 - strength, 1 + strength)
            image = BLENDS[operation](image).enhance(factor)
        else:
            image = turn_hue(image, random.uniform(-HUE_STRENGTH, HUE_STRENGTH))
    return image


def turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shift = int(turns * 255)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def normalized(image) -> torch.Tensor:
    """float32 [3, S, S] of a picture or of an array [S, S, 3]."""
    values = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
