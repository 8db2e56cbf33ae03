"""TensorBoard's files: records that carry checksums of their length and of their content.

Source: the TFRecord format: length (8 bytes), its masked CRC-32C (4), content, its masked CRC-32C
(4), all little-endian (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct

import numpy as np

from moco_tf.errors import DamagedError

_HEAD, _TAIL = 12, 4  # bytes around the content


def whole_records(data: bytes) -> int:
    """Returns the bytes of the whole records that a file begins with; a kill cuts the last one off.

    Zeros at the end, as after a power failure, are no record.

    Raises:
        DamagedError: if a record does not match its checksums.
    """
    starts, lengths, place = [], [], 0
    while place + _HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        starts.append(place)
        lengths.append(length)
        if place + _HEAD + length + _TAIL > len(data):
            break
        place += _HEAD + length + _TAIL
    everything = np.frombuffer(data, np.uint8)
    heads, sizes = np.array(starts, np.int64), np.array(lengths, np.uint64)
    wrong = list(heads[_mismatches(everything, heads, 8)])
    inside = heads < min([*wrong, place])  # at a wrong length the way is lost
    for size in np.unique(sizes[inside]):
        contents = heads[inside & (sizes == size)] + _HEAD
        wrong += list(contents[_mismatches(everything, contents, int(size))] - _HEAD)
    if wrong and any(data[min(wrong) :]):
        raise DamagedError(f"the record at byte {min(wrong)} does not match its checksum")
    return int(min([*wrong, place]))


def _mismatches(data: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Whether the `size` bytes at each start differ from the masked CRC-32C behind them: bool."""
    remainder = np.full(len(starts), 0xFFFFFFFF, np.uint32)
    for offset in range(size):
        index = (remainder ^ data[starts + offset]) & np.uint32(0xFF)
        remainder = _TABLE[index] ^ (remainder >> np.uint32(8))
    crc = remainder ^ np.uint32(0xFFFFFFFF)
    masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    carried = [
        data[starts + size + byte].astype(np.uint32) << np.uint32(8 * byte) for byte in range(4)
    ]
    return masked != carried[0] | carried[1] | carried[2] | carried[3]


def _table() -> np.ndarray:
    """Remainders of all bytes by Castagnoli's polynomial, bits reversed: uint32 [256]."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (table & np.uint32(1)).astype(bool)
        table = np.where(
            odd, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1)
        )
    return table.astype(np.uint32)


_TABLE = _table()
