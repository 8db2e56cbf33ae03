"""Files that carry their digest: what is told of every bit, every length, and of older files."""

import hashlib
import io
import json

import numpy as np
import pytest

from moco_tf.errors import DamagedError
from moco_tf.files.digests import (
    add_json_digest,
    add_lines_digest,
    add_zip_digest,
    check_json_digest,
    check_lines_digest,
    check_zip_digest,
)

VALUE = {"rate": 1e-05, "milestones": [3, 5], "name": "Gänge\n", "none": None, "inner": {"a": 1}}


def archive():
    file = io.BytesIO()
    np.savez(file, names=np.arange(5, dtype=np.uint8), sizes=np.ones((2, 2), np.int32))
    return file.getvalue()


SEALED = {
    "json": (check_json_digest, add_json_digest(VALUE)),
    "lines": (check_lines_digest, add_lines_digest(["train/a b.jpg", "train/ö.jpg", "17"])),
    "zip": (check_zip_digest, add_zip_digest(archive())),
}


def test_what_was_sealed_comes_back_with_its_digest():
    text, digest = check_json_digest(add_json_digest(VALUE))
    assert json.loads(text) == VALUE
    assert (
        digest == hashlib.sha256(text).hexdigest() == json.loads(add_json_digest(VALUE))["sha256"]
    )
    assert text.decode() == json.dumps(VALUE, indent=2) + "\n"  # as it was without a digest
    lines, digest = check_lines_digest(add_lines_digest(["a", "b c"]))
    assert lines == b"a\nb c\n" and digest == hashlib.sha256(lines).hexdigest()
    sealed = add_zip_digest(archive())
    assert check_zip_digest(sealed) == (sealed, hashlib.sha256(sealed[:-64]).hexdigest())
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
        (check_json_digest, b'{"step": 3}'),
        (
            check_json_digest,
            json.dumps({"step": 3, "state_sha256": "a" * 64}, indent=2).encode() + b"\n",
        ),
        (check_json_digest, b"{}"),
        (check_lines_digest, b"0\n17\n"),
        (check_lines_digest, b"#\n"),
        (check_lines_digest, b"folder/with/a/long/name.jpg\n"),
        (check_zip_digest, archive()),
    ],
)
def test_older_files_carry_none_and_are_read(open_it, data):
    assert open_it(data) == (data, None)


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b'{"sha256": 1}', b"\xff"])
def test_what_is_no_json_object_is_damage(text):
    with pytest.raises(DamagedError):
        check_json_digest(text)
