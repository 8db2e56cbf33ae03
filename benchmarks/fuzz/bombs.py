"""Small files that hold much: images that would fill the memory, or take minutes to decode."""

import functools
import struct
import zlib

from formats import encoded, png
from PIL import Image

BOMB_SIDE = 20000  # pixels


@functools.cache
def png_bomb() -> bytes:
    """20,000 x 20,000 pixels, in 2 MB."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(BOMB_SIDE * (1 + BOMB_SIDE)), 1)
    return png([(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")])


@functools.cache
def gif_bomb() -> bytes:
    """A thousand frames of 5000 x 5000 pixels, in some MB."""
    one = encoded(Image.new("P", (5000, 5000)), "GIF")
    start = one.find(b"\x2c", 13)
    return one[:-1] + one[start:-1] * 999 + b";"


def webp_bomb() -> bytes:
    """16,383 x 16,383 black pixels, as Pillow encodes them in ten seconds."""
    return b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/\xfe\xbf\xff\x0f\x07\x10\x11\xfd\x0fDD\xff\x03"


@functools.cache
def jpeg_bomb() -> bytes:
    """The largest sides that a JPEG has."""
    return encoded(Image.new("L", (65500, 20000)), "JPEG")


@functools.cache
def scans_bomb() -> bytes:
    """A progressive JPEG that goes over its pixels three thousand times."""
    one = encoded(Image.new("L", (8000, 8000)), "JPEG", progressive=True)
    last = one.rfind(b"\xff\xda")
    return one[:-2] + one[last:-2] * 3000 + b"\xff\xd9"


@functools.cache
def flat_bomb() -> bytes:
    """As many pixels as are allowed, nearly."""
    return encoded(Image.new("RGB", (9400, 9400)), "PNG", compress_level=9)


@functools.cache
def flat_bmp() -> bytes:
    header = b"BM" + struct.pack("<IIIIiiHHIIIIII", 0, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)
    return header + bytes(3000)


BOMBS = (png_bomb, gif_bomb, webp_bomb, jpeg_bomb, scans_bomb, flat_bomb, flat_bmp)
