"""Where the records of a TFRecord file lie, by the headers alone.

A record is its length (uint64), a checksum of that (CRC-32C, masked), its bytes, and a checksum of
them: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import numpy as np

from moco_tf.errors import InputError

HEADER, FOOTER = 12, 4  # bytes around a record, be it of a pack or not
_POLYNOMIAL, _MASK = 0x82F63B78, 0xA282EAD8  # of CRC-32C, reflected; of TFRecord
_ROWS = 2**18  # headers that are checked at a time


def find_records(data: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each record begins and how long it is, int64 [n] both, in their order.

    Args:
        data: uint8 [bytes], the whole file `path`.

    Raises:
        InputError: it is compressed, no TFRecord file, damaged in a header, or cut off.
    """
    if data[:2].tobytes() == b"\x1f\x8b":
        raise InputError(
            f"data: {path} is compressed (gzip), which has no random access. Unpack each "
            f"shard (zcat OLD > NEW), or write them without compression."
        )
    starts, lengths, at, end = array("q"), array("q"), 0, len(data)
    header, view, whole = struct.Struct("<Q"), memoryview(data.data), True
    while at < end and whole:
        whole = end - at >= HEADER + FOOTER
        length = header.unpack_from(view, at)[0] if whole else 0
        whole = whole and length <= end - at - HEADER - FOOTER
        starts.append(at + HEADER)
        lengths.append(length if whole else 0)
        at += HEADER + length + FOOTER
    places = np.array(starts, np.int64)
    _check_headers(data, places if whole else places[:-1], path)
    if not whole:
        last = int(places[-1]) - HEADER
        if end - last >= HEADER:
            _check_headers(data, places[-1:], path)
        raise InputError(
            f"data: {path} is truncated: its record {len(places) - 1} begins at byte {last} and "
            f"goes beyond the file's {end}. Copy the shard again."
        )
    return places, np.array(lengths, np.int64)


def _check_headers(data: np.ndarray, starts: np.ndarray, path: Path) -> None:
    for first in range(0, len(starts), _ROWS):
        places = starts[first : first + _ROWS, None] - HEADER
        headers = data[places + np.arange(HEADER)]  # [n, 12]
        wrong = _masked_crc(headers[:, :8]) != headers[:, 8:].copy().view("<u4")[:, 0]
        if wrong.any():
            row = first + int(np.flatnonzero(wrong)[0])
            what = "is no TFRecord file" if row == 0 else f"is damaged at its record {row}"
            raise InputError(
                f"data: {path} {what}: the checksum of the header at byte "
                f"{int(starts[row]) - HEADER} is wrong. Give uncompressed TFRecord files that are "
                f"whole."
            )


def _masked_crc(rows: np.ndarray) -> np.ndarray:
    """TFRecord's masked CRC-32C of each row of uint8 [n, bytes]: uint32 [n]."""
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(_MASK)


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _crc_table()
