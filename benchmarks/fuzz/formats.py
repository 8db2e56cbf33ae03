"""Writing images: by Pillow, and PNGs chunk by chunk."""

import io
import struct
import zlib

from PIL import Image


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks (name, body), with right check sums."""
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
