"""Whole images of every kind that a folder may hold, and how their formats are made to lie."""

import functools
import random
import struct
import zlib

import numpy as np
from bombs import BOMBS
from cases import broken, number
from formats import encoded, png
from PIL import Image


@functools.cache
def whole_images() -> dict[str, bytes]:
    x, y = np.meshgrid(np.arange(37), np.arange(23))
    photo = Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], -1).astype(np.uint8))
    more = {"save_all": True, "append_images": [photo.rotate(90), Image.new("RGB", photo.size)]}
    deep = Image.fromarray((x * y * 70).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": encoded(photo, "JPEG"),
        "progressive.jpeg": encoded(photo, "JPEG", progressive=True),
        "turned.jpeg": encoded(photo, "JPEG", exif=turned),
        "cmyk.jpeg": encoded(photo.convert("CMYK"), "JPEG"),
        "gray.jpeg": encoded(photo.convert("L"), "JPEG"),
        "png": encoded(photo, "PNG"),
        "deep.png": encoded(deep, "PNG"),
        "palette.png": encoded(photo.quantize(20), "PNG", transparency=3),
        "bits.png": encoded(photo.convert("1"), "PNG"),
        "alpha.png": encoded(photo.convert("LA"), "PNG"),
        "animated.png": encoded(photo, "PNG", **more),
        "gif": encoded(photo, "GIF"),
        "animated.gif": encoded(photo, "GIF", **more),
        "webp": encoded(photo, "WEBP"),
        "lossless.webp": encoded(photo.convert("RGBA"), "WEBP", lossless=True),
        "turned.webp": encoded(photo, "WEBP", exif=turned),
        "animated.webp": encoded(photo, "WEBP", **more),
        "bmp": encoded(photo, "BMP"),
        "palette.bmp": encoded(photo.quantize(20), "BMP"),
        "bits.bmp": encoded(photo.convert("1"), "BMP"),
        "tiff": encoded(photo, "TIFF"),
        "lzw.tiff": encoded(deep, "TIFF", compression="tiff_lzw"),
        "jpeg.tiff": encoded(photo, "TIFF", compression="jpeg"),
        "fax.tiff": encoded(photo.convert("1"), "TIFF", compression="group4"),
        "pages.tiff": encoded(photo, "TIFF", **more),
        "ppm": encoded(photo, "PPM"),
        "deep.pgm": encoded(deep, "PPM"),
        "12.pgm": b"P5 37 23 4095\n" + bytes(2 * 37 * 23),
        "plain.ppm": b"P3 3 2 255\n" + b"1 20 255 " * 6,
        "avif": encoded(photo, "AVIF"),
        "alpha.avif": encoded(photo.convert("LA"), "AVIF"),
        "alpha.webp": encoded(photo.convert("LA"), "WEBP"),
        "ico": encoded(photo, "ICO"),
        "empty": b"",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    }


def hostile_image(rng: random.Random) -> bytes:
    """One image: a bomb, one whose headers lie, or broken bytes."""
    images = whole_images()
    chance = rng.random()
    if chance < 0.005:
        return rng.choice(BOMBS)()
    name = rng.choice(list(images))
    data = images[name]
    kind = name.rsplit(".", 1)[-1]
    if chance < 0.5 and kind in _LIARS:
        data = _LIARS[kind](rng, data)
        if rng.random() < 0.6:
            return data
    elif chance > 0.98:
        return data
    return broken(rng, data, images[rng.choice(list(images))])


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _lying_png(rng: random.Random, data: bytes) -> bytes:
    """Headers and chunks that are not so, with right check sums."""
    chunks = _chunks(data)
    for _ in range(rng.randrange(1, 3)):
        place = rng.randrange(len(chunks))
        name, body = chunks[place]
        kind = rng.randrange(6)
        if kind <= 1:
            fields = list(struct.unpack(">IIBBBBB", chunks[0][1][:13].ljust(13, b"\0")))
            which = rng.randrange(7)
            fields[which] = number(rng) % (2**32 if which < 2 else 17)
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
        elif kind == 2:
            chunks[place] = (name, broken(rng, body))
        elif kind == 3:
            chunks.insert(place, chunks[rng.randrange(len(chunks))])
        elif kind == 4:
            text = b"Comment\0\0" + zlib.compress(bytes(rng.choice((10, 10**6, 3 * 10**7))))
            chunks.insert(1, (rng.choice((b"zTXt", b"iCCP")), text))
        else:
            raw = zlib.compress(rng.randbytes(50) + bytes(number(rng) % 10**6))
            chunks[place] = (b"IDAT", raw)
    return png(chunks)


def _lying_jpeg(rng: random.Random, data: bytes) -> bytes:
    """The frame's size, its components, or the length of a segment; or many more scans."""
    content = bytearray(data)
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    scan = content.find(b"\xff\xda")
    kind = rng.randrange(5)
    if kind == 0:
        content[frame + 5 : frame + 9] = struct.pack(
            ">HH", number(rng) % 2**16, number(rng) % 2**16
        )
    elif kind == 1:
        content[frame + 9 + rng.randrange(10)] = rng.randrange(256)
    elif kind == 2:
        place = rng.choice([i for i in range(scan) if content[i] == 255 and content[i + 1] > 191])
        content[place + 2 : place + 4] = struct.pack(">H", number(rng) % 2**16)
    elif kind == 3:
        content[-2:-2] = content[scan:-2] * rng.choice((1, 10, 200))
    else:
        content[2:2] = (
            b"\xff" + rng.choice((b"\xe1", b"\xe2", b"\xfe")) + b"\xff\xff" + bytes(65533)
        )
    return bytes(content)


def _lying_gif(rng: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    image = content.find(b"\x2c", 13)
    place = rng.choice((6, 8, 10, image + 1, image + 3, image + 5, image + 7, image + 9))
    content[place : place + 2] = struct.pack("<H", number(rng) % 2**16)
    if rng.random() < 0.2:
        content[-1:-1] = content[image:-1] * rng.choice((1, 20))
    return bytes(content)


def _lying_webp(rng: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    places = [4, 16, 20, 24, 27, *(i + 4 for i in range(len(data)) if data[i : i + 3] in _RIFFS)]
    place = rng.choice(places)
    text = struct.pack("<I", number(rng) % 2**32)[: rng.choice((1, 2, 3, 4))]
    content[place : place + len(text)] = text
    return bytes(content)


_RIFFS = (b"VP8", b"ANI", b"ANM", b"ALP", b"EXI")


def _lying_bmp(rng: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    place = rng.choice((2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50))
    content[place : place + 4] = struct.pack("<I", number(rng) % 2**32)
    if rng.random() < 0.3:
        content[28:34] = struct.pack("<HI", rng.choice((1, 4, 8, 16, 24, 32)), rng.randrange(5))
    return bytes(content)


_LIARS = {
    "png": _lying_png,
    "jpeg": _lying_jpeg,
    "gif": _lying_gif,
    "webp": _lying_webp,
    "bmp": _lying_bmp,
}
