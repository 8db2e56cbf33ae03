"""Where the features of many `tf.train.Example` lie, found in all of them at once with NumPy.

Only the bytes between the values are read: of an image, those before it. The wire format:
https://protobuf.dev/programming-guides/encoding, of tensorflow/core/example/example.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BYTES_LIST, _INT64_LIST = 0x0A, 0x1A  # tags of a Feature: field 1 and 3
_FIRST, _SECOND = 0x0A, 0x12  # tags of what has a length: field 1 and 2
_VARINT = 0x08  # tag of field 1 as a number


class NoExampleError(ValueError):
    """A record is no `tf.train.Example`; `row` tells which."""

    def __init__(self, row: int):
        super().__init__(f"record {row}")
        self.row = row


class Spans(NamedTuple):
    """Of n records, where something of each lies in the file; nothing where the length is -1."""

    starts: np.ndarray  # int64 [n]
    lengths: np.ndarray  # int64 [n]


def features(
    data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, keys: Sequence[str]
) -> dict[str, Spans]:
    """Returns the `Feature` messages of these keys in the records.

    Args:
        data: uint8 [bytes], the file.
        starts, lengths: of the records, int64 [n].

    Raises:
        NoExampleError: a record is no `tf.train.Example`.
    """
    count = len(starts)
    found = {key: Spans(np.zeros(count, np.int64), np.full(count, -1, np.int64)) for key in keys}
    for rows, key_at, key_length, at, length in _entries(data, starts, lengths):
        for key, spans in found.items():
            text = np.frombuffer(key.encode(), np.uint8)
            same = np.flatnonzero(key_length == len(text))
            named = (data[key_at[same, None] + np.arange(len(text))] == text).all(axis=1)
            same = same[named]
            spans.starts[rows[same]], spans.lengths[rows[same]] = at[same], length[same]
    return found


def keys_of(data: np.ndarray, start: int, length: int) -> list[str]:
    """Returns the keys of one record, sorted; of one that is no Example, none."""
    try:
        one = np.array([start], np.int64), np.array([length], np.int64)
        spans = [(int(at[0]), int(n[0])) for _, at, n, _, _ in _entries(data, *one)]
    except NoExampleError:
        return []
    return sorted(data[at : at + n].tobytes().decode("utf-8", "replace") for at, n in spans)


def bytes_values(data: np.ndarray, spans: Spans) -> Spans:
    """Returns where the first value of each feature lies that is a list of bytes."""
    rows, at = _of_kind(data, spans, _BYTES_LIST)
    rows, at = _where(rows, at, _byte(data, at) == _FIRST)
    length, at = _varints(data, at + 1, rows)
    out = Spans(np.zeros_like(spans.starts), np.full_like(spans.lengths, -1))
    whole = (length >= 0) & (at + length <= spans.starts[rows] + spans.lengths[rows])
    out.starts[rows[whole]], out.lengths[rows[whole]] = at[whole], length[whole]
    return out


def int_values(data: np.ndarray, spans: Spans) -> np.ndarray:
    """Returns the first value of each feature that is a list of int64, -1 where it is none."""
    rows, at = _of_kind(data, spans, _INT64_LIST)
    kind = _byte(data, at)
    packed, bare = kind == _FIRST, kind == _VARINT
    _, behind = _varints(data, at[packed] + 1, rows[packed])  # the length of the packed values
    at[packed], at[bare] = behind, at[bare] + 1
    rows, at = _where(rows, at, packed | bare)
    rows, at = _where(rows, at, at < spans.starts[rows] + spans.lengths[rows])
    values = np.full(len(spans.starts), -1, np.int64)
    values[rows] = _varints(data, at, rows)[0]
    return values


def _entries(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray):
    """Yields the next entry of all records that have one: rows, and the spans of key and value."""
    ends, at = starts + lengths, starts.copy()
    inner = starts.copy()  # where the `Features` end that the entries are of
    rows = np.flatnonzero(lengths > 0)
    while len(rows):
        fresh = rows[at[rows] == inner[rows]]
        length, at[fresh] = _sized(data, at[fresh], ends[fresh], _FIRST, fresh)
        inner[fresh] = at[fresh] + length
        rows = rows[at[rows] < ends[rows]]
        live = rows[at[rows] < inner[rows]]
        length, place = _sized(data, at[live], inner[live], _FIRST, live)
        behind = place + length
        key_length, key_at = _sized(data, place, behind, _FIRST, live)
        value_length, value_at = _sized(data, key_at + key_length, behind, _SECOND, live)
        yield live, key_at, key_length, value_at, value_length
        at[live] = behind
        rows = rows[at[rows] < ends[rows]]


def _sized(data: np.ndarray, at: np.ndarray, ends: np.ndarray, tag: int, rows: np.ndarray):
    """Length and place of a field that must be there and end by `ends`: int64 [m] both."""
    there = at < ends
    right = there & (data[np.where(there, at, 0)] == tag)
    if not right.all():
        raise NoExampleError(int(rows[np.flatnonzero(~right)[0]]))
    length, place = _varints(data, at + 1, rows)
    whole = (length >= 0) & (length <= ends - place)
    if not whole.all():
        raise NoExampleError(int(rows[np.flatnonzero(~whole)[0]]))
    return length, place


def _varints(data: np.ndarray, at: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of variable length at places `at`, int64 [m], and where they end."""
    value, at = np.zeros(len(at), np.uint64), at.copy()
    going = np.arange(len(at))
    for shift in range(0, 70, 7):
        byte = _byte(data, at[going])
        value[going] |= (byte & 127).astype(np.uint64) << np.uint64(shift)
        at[going] += 1
        going = going[byte >= 128]
        if not len(going):
            return value.view(np.int64), at
    raise NoExampleError(int(rows[going[0]]))


def _byte(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The bytes at these places; what lies beyond the file, as a damaged length may say, is 0."""
    return np.where(at < len(data), data[np.minimum(at, len(data) - 1)], 0)


def _of_kind(data: np.ndarray, spans: Spans, tag: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose feature is such a list and not empty, and where the list's values begin."""
    rows = np.flatnonzero(spans.lengths > 2)
    rows, at = _where(rows, spans.starts[rows], data[spans.starts[rows]] == tag)
    length, at = _varints(data, at + 1, rows)
    return _where(rows, at, length > 0)


def _where(rows: np.ndarray, at: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows[chosen], at[chosen]
