"""Digests of logs that grow: of their first bytes, for good, and kept over several starts."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.errors import DamagedError
from moco_tf.runs.log_digests import LogDigests, begins_with, parse_log_digests, whole_records

EVENTS = "tensorboard/events.out.tfevents.1"


def append(path, data):
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("size", [-5, True, 2.0, "3"])
def test_a_size_that_is_none_is_left_out(size):
    assert parse_log_digests({"metrics.jsonl": {"bytes": size, "sha256": "0" * 64}}) == {}


def test_digests_are_of_all_bytes_so_far(tmp_path):
    written = LogDigests(tmp_path)
    assert written.digests() == {}
    append(tmp_path / "metrics.jsonl", b"abc")
    first = written.digests()
    assert first == {"metrics.jsonl": {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}}
    append(tmp_path / "metrics.jsonl", b"defg")
    append(tmp_path / EVENTS, b"xy")
    append(tmp_path / "tensorboard" / "notes.txt", b"mine")
    assert written.digests() == LogDigests(tmp_path).digests()
    assert written.digests() == {
        "metrics.jsonl": {"bytes": 7, "sha256": hashlib.sha256(b"abcdefg").hexdigest()},
        EVENTS: {"bytes": 2, "sha256": hashlib.sha256(b"xy").hexdigest()},
    }
    data = (tmp_path / "metrics.jsonl").read_bytes()
    assert begins_with(data, first["metrics.jsonl"])
    assert not begins_with(data[:2], first["metrics.jsonl"])
    assert not begins_with(b"aBcdefg", first["metrics.jsonl"])


def test_curves_of_an_earlier_process_keep_their_digest_and_rows_get_a_new_one(tmp_path):
    append(tmp_path / EVENTS, b"xy")
    append(tmp_path / "metrics.jsonl", b"abc")
    before = LogDigests(tmp_path).digests()
    append(tmp_path / EVENTS, b"lost in the kill")
    append(tmp_path / "metrics.jsonl", b"d")
    later = LogDigests(tmp_path, before).digests()
    assert later[EVENTS] == before[EVENTS]
    assert later["metrics.jsonl"]["bytes"] == 4
    (tmp_path / EVENTS).unlink()
    assert set(LogDigests(tmp_path, later).digests()) == {"metrics.jsonl"}


def test_records_of_any_length_against_tensorflows_own_writer(tmp_path):
    path = str(tmp_path / "records")
    draw = np.random.default_rng(0)
    with tf.io.TFRecordWriter(path) as writer:
        for size in (0, 1, 7, 30, 30, 30, 100):
            writer.write(draw.bytes(size))
    data = (tmp_path / "records").read_bytes()
    assert whole_records(data) == len(data) and whole_records(b"") == 0
    assert whole_records(data[:-1]) == len(data) - 116  # the last one is cut off
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(DamagedError, match="record at byte"):
            whole_records(bytes(changed))
