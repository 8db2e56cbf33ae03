"""Decoding: an image that claims too much is refused before anything is allocated for it."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.data import files
from moco_tf.data.decode import MOST_PIXELS, MOST_SCANNED_PIXELS, decode
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError

REFUSED = (tf.errors.OpError, OSError, ValueError)


@pytest.fixture(scope="module")
def decoded():
    """A function of bytes, traced once: uint8 [h, w, 3]."""
    function = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda contents: function(tf.constant(contents)).numpy()


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width, height):
    """A header with the right check sum, and no pixel."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def webp(header, fields):
    """A header, and no pixel."""
    return b"RIFF\x64\0\0\0WEBP" + header + b"\x20\0\0\0" + fields + bytes(90)


def lossless(width, height):
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)


def extended(width, height, flags=0):
    return (
        bytes([flags, 0, 0, 0])
        + struct.pack("<II", width - 1, (height - 1) << 8 | 0)[:3]
        + (height - 1).to_bytes(3, "little")
    )


def jpeg(width, height):
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    frame = content.find(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize(
    "contents",
    [
        png(10_000, 10_000),
        png(2**31 - 1, 2**31 - 1),
        png(2**32 - 1, 2**32 - 1),
        webp(b"VP8L", lossless(16_383, 16_383)),
        webp(b"VP8X", extended(2**24, 2**24)),
        webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383)),
        jpeg(65_500, 65_500),
    ],
)
def test_more_pixels_than_are_decoded_are_refused_by_the_header(decoded, contents):
    with pytest.raises(REFUSED, match=f"larger than the {MOST_PIXELS} pixels"):
        decoded(contents)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("form", ["BMP", "GIF"])
def test_so_are_those_that_pillow_reads(decoded, form):
    content = bytearray(encoded(Image.new("P", (16, 16)), form))
    place, kind = (18, "<II") if form == "BMP" else (6, "<HH")
    content[place : place + struct.calcsize(kind)] = struct.pack(kind, 10_000, 10_000)
    with pytest.raises(REFUSED, match="larger than the"):
        decoded(bytes(content))


def test_a_jpeg_that_goes_over_its_pixels_too_often_is_refused(decoded):
    side = 2000
    whole = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    scans = MOST_SCANNED_PIXELS // side**2
    assert decoded(whole).shape == (side, side, 3)
    with pytest.raises(REFUSED, match=f"larger than the {MOST_SCANNED_PIXELS} pixels"):
        decoded(whole[:-2] + whole[last:-2] * scans + whole[-2:])


def test_only_the_first_frame_of_a_gif_is_decoded(decoded):
    """A later frame that is damaged does no harm; before, all frames were held in memory."""
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    photo = Image.fromarray(np.stack([x * 6, y * 8, x + y], -1).astype(np.uint8)).quantize(64)
    whole = encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(90)])
    np.testing.assert_array_equal(decoded(whole), np.asarray(photo.convert("RGB")))
    np.testing.assert_array_equal(decoded(whole[:-400]), decoded(whole))


@pytest.mark.parametrize("contents", [b"", b"P6\n1 1\n255\naaa", b"II*\0" + bytes(99), b"<svg/>"])
def test_what_is_no_image_of_these_formats_is_told(decoded, contents):
    with pytest.raises(REFUSED, match="no JPEG, PNG, BMP, GIF or WebP"):
        decoded(contents)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    with open(tmp_path / "b.jpg", "wb") as file:
        file.truncate(2**42)  # a hole: it takes no place on the disk
    train, _ = open_images(str(tmp_path), max_bad_images=0.5)
    assert train.count == 1 and train.skipped == (str(tmp_path / "b.jpg"),)


@pytest.mark.parametrize(
    "change",
    [
        {"stamps": np.zeros((1, 2), np.int64)},
        {"stamps": np.zeros(2, np.int64)},
        {"sizes": np.array([["a", "b"]] * 2)},
        {"names": np.array(["a"])},
    ],
)
def test_a_list_of_images_that_lies_is_made_again(tmp_path, change):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in "ab":
        Image.new("RGB", (9, 8)).save(folder / f"{name}.png")
    open_images(str(folder), cache=tmp_path)
    (kept,) = tmp_path.glob(".images-*.npz")
    arrays = dict(np.load(kept))
    np.savez(kept, **arrays | change)
    train, _ = open_images(str(folder), cache=tmp_path)
    assert train.sizes.tolist() == [[8, 9]] * 2


def test_a_folder_of_nothing_but_bombs_is_one_line(tmp_path):
    (tmp_path / "a\nb\x1b[31m.png").write_bytes(png(50_000, 50_000))
    with pytest.raises(InputError, match="none of the 1 images") as refused:
        open_images(str(tmp_path))
    assert str(refused.value).isprintable() and files.SUFFIXES
