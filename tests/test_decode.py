"""Decoding: an image that claims too much is refused before anything is allocated for it."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.data.decode import MOST_SCANNED_PIXELS, decode
from moco_tf.data.pillow import MOST_PIXELS, MOST_TEXT
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError

REFUSED = (tf.errors.OpError, OSError, ValueError)


@pytest.fixture(scope="module")
def decoded():
    """A function of bytes, traced once: uint8 [h, w, 3]."""
    function = tf.function(decode, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
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


def layouts():
    """The same picture in each layout, by name; alpha from 0 to 255, and 0 over a whole part."""
    y, x = np.mgrid[:30, :40]
    rgb = Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], -1).astype(np.uint8))
    alpha = Image.fromarray(np.where(y < 10, 0, (x * 7 + y * 3) % 256).astype(np.uint8))
    rgba, gray_alpha = rgb.copy(), rgb.convert("L")
    rgba.putalpha(alpha)
    gray_alpha.putalpha(alpha)
    return {
        "gray": rgb.convert("L"),
        "gray + alpha": gray_alpha,
        "palette": rgb.quantize(64),
        "palette + transparency": rgb.quantize(64),
        "RGB": rgb,
        "RGBA": rgba,
        "1-bit": rgb.convert("1"),
        "CMYK": rgb.convert("CMYK"),
        "16-bit gray": Image.fromarray((x * 1500 + y * 37).astype(np.uint16)),
        "animated": rgb,
        "animated RGBA": rgba,
        "LAB": Image.merge("LAB", rgb.split()),
    }


FORMS = {
    "JPEG": ("JPEG", {"quality": 95}, ["gray", "RGB", "CMYK"]),
    "progressive JPEG": ("JPEG", {"progressive": True}, ["gray", "RGB", "CMYK"]),
    "PNG": ("PNG", {}, [name for name in layouts() if name not in ("CMYK", "LAB")]),
    "BMP": ("BMP", {}, ["gray", "palette", "RGB", "RGBA", "1-bit"]),
    "GIF": ("GIF", {}, [n for n in layouts() if n not in ("CMYK", "16-bit gray", "LAB")]),
    "lossy WebP": ("WEBP", {}, ["RGB", "gray + alpha", "RGBA", "animated", "animated RGBA"]),
    "lossless WebP": (
        "WEBP",
        {"lossless": True, "exact": True},
        ["RGB", "gray + alpha", "RGBA", "animated", "animated RGBA"],
    ),
    "TIFF": ("TIFF", {}, list(layouts())),
    "TIFF, JPEG inside": ("TIFF", {"compression": "jpeg"}, ["gray", "RGB", "CMYK", "RGBA"]),
    "TIFF, big-endian": ("TIFF", {"big_endian": True}, ["16-bit gray"]),
    "PPM, PGM, PBM": ("PPM", {}, ["gray", "RGB", "1-bit", "16-bit gray"]),
    "AVIF": ("AVIF", {}, ["gray", "gray + alpha", "RGB", "RGBA", "animated", "animated RGBA"]),
}


def written(form, layout):
    name, options, _ = FORMS[form]
    image = layouts()[layout]
    if layout == "palette + transparency":
        options = options | {"transparency": 5}
    if layout.startswith("animated"):
        options = options | {"save_all": True, "append_images": [image.rotate(180)]}
    return encoded(image, name, **options)


def pillow_rgb(contents):
    """Pillow's RGB, but of 16-bit gray the upper 8 bits: Pillow cuts values at 255."""
    with Image.open(io.BytesIO(contents)) as image:
        if image.mode == "I" or image.mode.startswith("I;16"):
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("form", "layout"), [(f, name) for f in FORMS for name in FORMS[f][2]])
def test_every_layout_of_every_format_is_that_of_pillow(decoded, form, layout):
    contents = written(form, layout)
    np.testing.assert_array_equal(decoded(contents), pillow_rgb(contents))


@pytest.mark.parametrize("form", ["PNG", "lossless WebP", "TIFF"])
def test_alpha_is_dropped_not_blended(decoded, form):
    np.testing.assert_array_equal(decoded(written(form, "RGBA")), layouts()["RGB"])


@pytest.mark.parametrize("transform", [0, 2, None])  # CMYK, YCCK, and CMYK that no marker tells of
def test_cmyk_is_that_of_pillow_also_without_adobes_marker(decoded, transform):
    whole = written("JPEG", "CMYK")
    at = whole.index(b"\xff\xee\x00\x0eAdobe")
    marker = b"" if transform is None else whole[at : at + 15] + bytes([transform])
    contents = whole[:at] + marker + whole[at + 16 :]
    np.testing.assert_array_equal(decoded(contents), pillow_rgb(contents))


def png_of_16_bits(values, kind):
    """A PNG of uint16 [h, w, channels], of the PNG colour type `kind`."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(values, bits, **more):
    """A little-endian TIFF of one strip, of packed bytes `values` [h, bytes], gray or RGB."""
    (height, _), samples = values.shape, len(bits)
    width = values.shape[1] * 8 // sum(bits)
    at = 8 + values.size
    tags = {256: width, 257: height, 259: 1, 262: 2 if samples == 3 else 1, 273: 8, 277: samples}
    tags |= {278: height, 279: values.size} | {int(tag): value for tag, value in more.items()}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = (
        struct.pack("<HHI", 258, 3, 3) + struct.pack("<I", at)
        if samples == 3
        else struct.pack("<HHIHH", 258, 3, 1, bits[0], 0)
    )
    listed = b"".join(entries[tag] for tag in sorted(entries))
    extra = struct.pack(f"<{samples}H", *bits) if samples == 3 else b""
    head = b"II*\0" + struct.pack("<I", at + len(extra))
    return head + values.tobytes() + extra + struct.pack("<H", len(entries)) + listed + bytes(4)


def test_of_16_bits_the_upper_8_are_kept(decoded):
    values = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4)).astype(np.uint16)
    upper = (values >> 8).astype(np.uint8)
    for kind, channels in ((0, [0]), (4, [0, 3]), (2, [0, 1, 2]), (6, [0, 1, 2, 3])):
        expected = upper[..., :3] if len(channels) > 2 else np.repeat(upper[..., :1], 3, axis=-1)
        found = decoded(png_of_16_bits(values[..., channels], kind))
        np.testing.assert_array_equal(found, expected)
    packed = np.ascontiguousarray(values[..., :3]).view(np.uint8).reshape(5, 42)
    np.testing.assert_array_equal(decoded(tiff(packed, [16, 16, 16])), upper[..., :3])
    ppm = b"P6 7 5 65535\n" + values[..., :3].astype(">u2").tobytes()
    np.testing.assert_array_equal(decoded(ppm), np.round(values[..., :3] / 65535 * 255))


def test_fewer_bits_of_which_the_file_knows_fill_the_range(decoded):
    """12-bit values of TIFF, two in three bytes, and a PGM whose header says 4095."""
    values = np.random.default_rng(0).integers(0, 2**12, (4, 6)).astype(np.uint16)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    found = decoded(tiff(packed.astype(np.uint8).reshape(4, 9), [12]))
    np.testing.assert_array_equal(found[..., 0], values >> 4)
    pgm = b"P5 6 4 4095\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(decoded(pgm)[..., 0], np.round(values / 4095 * 65535) // 256)


@pytest.mark.parametrize("header", ["P6 4 5 4095", "P6 4 5 7", "P5 12 5 7", "P6\n4 5 # x\n300"])
def test_netpbm_of_any_maximum_is_that_of_pillow(decoded, header):
    """Values above the maximum too; of gray above 255 the test before this has the rule."""
    maximum = int(header.split()[-1])
    kind = ">u2" if maximum > 255 else "u1"
    values = np.random.default_rng(0).integers(0, maximum + maximum // 4, 60).astype(kind)
    contents = header.encode() + b"\n" + values.tobytes()
    np.testing.assert_array_equal(decoded(contents), pillow_rgb(contents))
    with pytest.raises(REFUSED):
        decoded(contents[:-1])


def test_netpbm_of_plain_text_is_that_of_pillow_up_to_a_length(decoded):
    for text in (b"P3 2 1 255 1 2 3 200 5 6", b"P2 3 1 15 1 15 3", b"P1 3 1 101"):
        np.testing.assert_array_equal(decoded(text), pillow_rgb(text))
    np.testing.assert_array_equal(decoded(b"P2 2 1 4095 4095 2048")[0, :, 0], [255, 128])
    with pytest.raises(REFUSED, match=f"larger than the {MOST_TEXT} bytes of text"):
        decoded(b"P2 4000 4000 255 " + b"1 " * (MOST_TEXT // 2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(decoded, kind):
    with pytest.raises(REFUSED, match="their range is unknown"):
        decoded(encoded(Image.fromarray(np.ones((4, 4), kind)), "TIFF"))


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
@pytest.mark.parametrize(("form", "place", "kind"), [("BMP", 18, "<II"), ("GIF", 6, "<HH")])
def test_so_are_those_that_pillow_reads(decoded, form, place, kind):
    content = bytearray(encoded(Image.new("P", (16, 16)), form))
    content[place : place + struct.calcsize(kind)] = struct.pack(kind, 10_000, 10_000)
    with pytest.raises(REFUSED, match="larger than the"):
        decoded(bytes(content))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_so_are_those_of_tiff_netpbm_and_avif(decoded):
    row = np.zeros((1, 4), np.uint8)
    avif = bytearray(encoded(Image.new("RGB", (16, 16)), "AVIF"))
    place = avif.index(b"ispe") + 8
    avif[place : place + 8] = struct.pack(">II", 10_000, 10_000)
    for contents in (
        tiff(row, [8], **{"256": 10_000, "257": 10_000}),
        tiff(row, [8], **{"322": 2**16, "323": 2**16}),
        b"P5 10000 10000 255\n",
        b"P1 10000 10000\n0 1",
        bytes(avif),
    ):
        with pytest.raises(REFUSED, match="larger than the"):
            decoded(contents)


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


HEIC = b"\0\0\0\x18ftypheic" + bytes(99)


@pytest.mark.parametrize("contents", [b"", b"P8 1 1", b"II*\0" + bytes(99), HEIC, b"<svg/>"])
def test_what_is_no_image_of_these_formats_is_told(decoded, contents):
    with pytest.raises(REFUSED, match="no JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, PGM, PBM or AVIF"):
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
def test_a_list_of_images_that_lies_is_made_again(tmp_path, cache, change):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in "ab":
        Image.new("RGB", (9, 8)).save(folder / f"{name}.png")
    open_images(str(folder))
    (kept,) = cache.glob("images-*.npz")
    arrays = dict(np.load(kept))
    np.savez(kept, **arrays | change)
    train, _ = open_images(str(folder))
    assert train.sizes.tolist() == [[8, 9]] * 2


def test_a_folder_of_nothing_but_bombs_is_one_line(tmp_path):
    (tmp_path / "a\nb\x1b[31m.png").write_bytes(png(50_000, 50_000))
    with pytest.raises(InputError, match="none of the 1 images") as refused:
        open_images(str(tmp_path))
    assert str(refused.value).isprintable()
