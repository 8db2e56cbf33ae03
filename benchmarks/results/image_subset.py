"""The same images for both sides: some of each class of a labelled folder, as one .npz file."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image


def subset(folder: Path, out: Path, *, train: int, test: int) -> str:
    """Writes uint8 images and labels of both parts to `out`; returns the file's SHA-256.

    The first images by name of each class, equally many: a function of the folder alone.

    Args:
        folder: holds train/CLASS/* and test/CLASS/*, images of one size.
        train, test: images in all; of each class a tenth where there are ten.
    """
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        classes = sorted(path for path in (folder / part).iterdir() if path.is_dir())
        each = count // len(classes)
        files = [file for name in classes for file in sorted(name.iterdir())[:each]]
        if not each or len(files) != each * len(classes):
            raise SystemExit(f"{folder / part} has no {each} images in each of its classes.")
        arrays[f"x_{part}"] = np.stack([_pixels(file) for file in files])
        arrays[f"y_{part}"] = np.repeat(np.arange(len(classes)), each)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays.values())).hexdigest()


def _pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
