"""The lines of libjpeg and libtiff do not reach the terminal; all others do."""

import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from moco_tf.data.decoder_messages import stderr_held_back, without_decoders
from moco_tf.data.sources import open_images


def test_what_is_printed_meanwhile_comes_back(capfd):
    with stderr_held_back() as said:
        os.write(2, b"from C\n")
    assert said == b"from C\n" and capfd.readouterr().err == ""


def test_only_their_lines_are_left_out_also_after_an_error(capfd):
    with pytest.raises(ZeroDivisionError), without_decoders():
        os.write(
            2, b"Improper call to JPEG library in state 201\nCheck failed: x\nBogus DQT index 9\n"
        )
        raise ZeroDivisionError
    assert capfd.readouterr().err == "Check failed: x\n"


def test_damaged_files_are_named_and_the_decoders_are_silent(tmp_path, capfd):
    """Cut or changed anywhere; "Improper call" is its most frequent complaint."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
    for number in range(120):
        file = io.BytesIO()
        image.save(file, "JPEG", progressive=number % 2 == 0)
        content = bytearray(file.getvalue())
        if number % 3:
            content[rng.integers(2, len(content) if number % 3 == 1 else 700)] = rng.integers(256)
        else:
            del content[rng.integers(2, 700) :]
        (tmp_path / f"{number:03}.jpg").write_bytes(content)
    for number, compression in enumerate(
        ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"] * 10
    ):
        file = io.BytesIO()
        image.save(file, "TIFF", compression=compression)
        content = bytearray(file.getvalue())
        content[rng.integers(8, len(content))] ^= 255
        (tmp_path / f"t{number}.jpg").write_bytes(content)
    with stderr_held_back() as said:
        train, _ = open_images(str(tmp_path), max_bad_images=1)
    assert len(train.skipped) > 40 and "000.jpg" in train.skipped_line()
    lines = said.decode().splitlines()  # TensorFlow's own log, which commands turn off, remains
    assert [line for line in lines if not re.match(r"[IWE]\d{4} ", line)] == []
