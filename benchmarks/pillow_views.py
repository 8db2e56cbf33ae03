"""The official input path of MoCo v2: Pillow and a PyTorch DataLoader; the peer of our own.

Written from the published recipe. On Pillow images torchvision's transforms are calls of Pillow,
image by image, the same ones as here.
"""

import math
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class TwoViews(torch.utils.data.Dataset):
    """Pictures of a folder, each as two augmented views, float32 [3, S, S]."""

    def __init__(self, folder, image_size):
        suffixes = {".jpg", ".jpeg", ".png"}
        self.files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in suffixes)
        self.image_size = image_size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with open(self.files[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        return view(image, self.image_size), view(image, self.image_size)


def view(image, size):
    """MoCo v2's transforms: crop of 20 to 100 %, jitter, gray, blur, flip, normalise."""
    image = image.resize((size, size), Image.BILINEAR, box=_window(*image.size))
    if random.random() < 0.8:
        image = _jitter(image, 0.4, 0.4, 0.4, 0.1)
    if random.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return pixels.to(torch.float32).div(255).sub_(MEAN).div_(STD)


def _window(width, height):
    for _ in range(10):
        area = width * height * random.uniform(0.2, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width * 4 / 3)
    elif width / height > 4 / 3:
        w = round(height * 4 / 3)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _jitter(image, brightness, contrast, saturation, hue):
    amounts = {
        ImageEnhance.Brightness: brightness,
        ImageEnhance.Contrast: contrast,
        ImageEnhance.Color: saturation,
        None: hue,
    }
    for kind in random.sample(list(amounts), 4):
        if kind is None:
            image = _turn_hue(image, random.uniform(-hue, hue))
        else:
            image = kind(image).enhance(random.uniform(1 - amounts[kind], 1 + amounts[kind]))
    return image


def _turn_hue(image, amount):
    h, s, v = image.convert("HSV").split()
    turned = np.array(h) + np.array(amount * 255).astype(np.uint8)  # modulo 256
    return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert("RGB")


def batches(folder, *, batch_size, image_size, workers):
    """Endless (view 1, view 2), float32 [B, 3, S, S], in a new order every epoch."""
    loader = torch.utils.data.DataLoader(
        TwoViews(folder, image_size),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader
