"""What C and C++ code prints to stderr, past Python's `sys.stderr`, held back."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# What libjpeg and libtiff print of damaged files, without a word on which file it is.
_DECODERS = re.compile(
    rb"(Improper call to|Unsupported|Corrupt|Premature end of|Not a|Invalid) JPEG\b|Bogus "
    rb"|Empty input|Invalid (SOS|component|progressive|scan)|Inconsistent progression"
    rb"|Input file read error|(Huffman|Quantization|Arithmetic) table|Unsupported (marker|color)"
    rb"|Unknown Adobe color|Maximum supported image|Warning: unknown JFIF|Sorry, |tempfile\.tif: "
    rb"|_?O?(TIFF|JPEG|LZW|ZIP|Fax3|Fax4|PackBits|LZMA|ZSTD|WebP|PixarLog|Dump)\w*: "
)


@contextlib.contextmanager
def stderr_held_back() -> Iterator[bytearray]:
    """Yields what is printed to file descriptor 2 meanwhile; filled at the end."""
    said = bytearray()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said += file.read()


@contextlib.contextmanager
def without_decoders() -> Iterator[None]:
    """Meanwhile libjpeg and libtiff print nothing; what else goes to stderr comes at the end."""
    said = bytearray()
    try:
        with stderr_held_back() as said:
            yield
    finally:
        lines = [line for line in said.splitlines(True) if not _DECODERS.match(line)]
        os.write(2, b"".join(lines))
