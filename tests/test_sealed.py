"""Files that carry their digest: what is told of every bit, every length, and of older files."""

import hashlib
import io
import json

import numpy as np
import pytest

from moco_tf.errors import DamagedError
from moco_tf.sealed import open_json, open_lines, open_zip, seal_json, seal_lines, seal_zip

VALUE = {"rate": 1e-05, "milestones": [3, 5], "name": "Gänge\n", "none": None, "inner": {"a": 1}}


def archive():
    file = io.BytesIO()
    np.savez(file, names=np.arange(5, dtype=np.uint8), sizes=np.ones((2, 2), np.int32))
    return file.getvalue()


SEALED = {
    "json": (open_json, seal_json(VALUE)),
    "lines": (open_lines, seal_lines(["train/a b.jpg", "train/ö.jpg", "17"])),
    "zip": (open_zip, seal_zip(archive())),
}


def test_what_was_sealed_comes_back_with_its_digest():
    text, digest = open_json(seal_json(VALUE))
    assert json.loads(text) == VALUE
    assert digest == hashlib.sha256(text).hexdigest() == json.loads(seal_json(VALUE))["sha256"]
    assert text.decode() == json.dumps(VALUE, indent=2) + "\n"  # as it was without a digest
    lines, digest = open_lines(seal_lines(["a", "b c"]))
    assert lines == b"a\nb c\n" and digest == hashlib.sha256(lines).hexdigest()
    sealed = seal_zip(archive())
    assert open_zip(sealed) == (sealed, hashlib.sha256(sealed[:-64]).hexdigest())
    with np.load(io.BytesIO(sealed)) as found:
        np.testing.assert_array_equal(found["names"], np.arange(5))


@pytest.mark.parametrize("kind", SEALED)
def test_every_flipped_bit_and_every_shorter_file_is_damage(kind):
    open_it, data = SEALED[kind]
    assert open_it(data)[1]
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(DamagedError):
            open_it(bytes(damaged))
    for size in range(len(data)):
        with pytest.raises(DamagedError):
            open_it(data[:size])


@pytest.mark.parametrize(
    ("open_it", "data"),
    [
        (open_json, b'{"step": 3}'),
        (open_json, json.dumps({"step": 3, "state_sha256": "a" * 64}, indent=2).encode() + b"\n"),
        (open_json, b"{}"),
        (open_lines, b"0\n17\n"),
        (open_lines, b"#\n"),
        (open_lines, b"folder/with/a/long/name.jpg\n"),
        (open_zip, archive()),
    ],
)
def test_older_files_carry_none_and_are_read(open_it, data):
    assert open_it(data) == (data, None)


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b'{"sha256": 1}', b"\xff"])
def test_what_is_no_json_object_is_damage(text):
    with pytest.raises(DamagedError):
        open_json(text)
