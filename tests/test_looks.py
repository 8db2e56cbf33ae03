"""Images that show nothing are counted and named: black, nearly black, of one colour."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.data.looks import BLACK, ONE_COLOUR, SHOWS, look, looks
from moco_tf.data.sources import from_arrays, open_images


def pictures():
    """Name -> (uint8 [40, 50, 3], how it looks)."""
    plain, red = np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50, 3), np.uint8)
    red[..., 0] = 200
    dot = red.copy()
    dot[13, 17, 1] = 1  # between the pixels that are looked at first
    star = plain.copy()
    star[13, 17] = 16
    noise = np.random.default_rng(0).integers(0, 16, (40, 50, 3), np.uint8)
    return {
        "black": (plain, BLACK),
        "dark": (noise, BLACK),
        "dot": (dot, SHOWS),
        "gray": (plain + 99, ONE_COLOUR),
        "photo": (noise * 16, SHOWS),
        "red": (red, ONE_COLOUR),
        "star": (star, SHOWS),
        "white": (plain + 255, ONE_COLOUR),
    }


def test_each_look_is_told():
    images, expected = zip(*pictures().values(), strict=True)
    found = tf.function(
        look, autograph=False, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
    )
    assert [int(found(image)) for image in images] == list(expected)
    assert looks(np.stack(images)).tolist() == list(expected)


def test_the_scan_of_a_folder_tells_and_keeps_them(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    folder.mkdir()
    for name, (image, _) in pictures().items():
        Image.fromarray(image).save(folder / f"{name}.png")
    gray12 = np.random.default_rng(1).integers(0, 2**12, (40, 50)).astype(np.uint16)
    Image.fromarray(gray12).save(folder / "z12.png")
    expected = [look for _, look in pictures().values()] + [BLACK]
    train, _ = open_images(str(folder))
    assert train.looks.tolist() == expected
    assert train.blank_share == pytest.approx(6 / 9)
    assert train.looks_line("test ") == (
        f"6 of 9 test images show nothing: 3 black or nearly so (no value above 15 of 255), the "
        f"first is {folder / 'black.png'}; 3 of one colour, the first is {folder / 'gray.png'}. "
        f"16-bit files of 8- or 12-bit values come out black: scale them to the full range."
    )
    assert train.subset(np.array([2, 4])).looks_line() == ""
    monkeypatch.delattr("moco_tf.data.file_sizes.look")  # the next call finds them in the cache
    assert open_images(str(folder))[0].looks.tolist() == expected


def test_a_cache_without_looks_is_made_again(tmp_path, cache):
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", (9, 8)).save(folder / "a.png")
    open_images(str(folder))
    (kept,) = cache.glob("images-*.npz")
    arrays = dict(np.load(kept))
    np.savez(kept, **arrays | {"sizes": arrays["sizes"][:, :2]})
    train, _ = open_images(str(folder))
    assert (train.sizes.tolist(), train.looks.tolist()) == ([[8, 9]], [BLACK])


def test_arrays_of_values_from_0_to_1_are_told():
    images = from_arrays("x.npz", np.random.default_rng(0).integers(0, 2, (5, 8, 8, 3), np.uint8))
    assert images.looks_line() == (
        "5 of 5 images show nothing: 5 black or nearly so (no value above 15 of 255), the first is "
        "number 0. Values from 0 to 1 are black: multiply them by 255."
    )
    assert from_arrays("y", np.full((3, 8, 8), 99, np.uint8)).blank_share == 1
