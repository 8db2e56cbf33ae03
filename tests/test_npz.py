"""Reading .npz files: what is damaged, or claims too much, is one line and takes no memory."""

import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.files.npz import LARGEST_RATIO, SMALL, read_npz


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as file:
        for name, data in members.items():
            file.writestr(name, data)


def header(text, body=b""):
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text.encode() + body


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_come_back(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(5), b=np.array(["x"]))
    read = read_npz(tmp_path / "a.npz", "a set")
    assert read["a"].tolist() == [0, 1, 2, 3, 4] and read["b"].tolist() == ["x"]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path, size = tmp_path / "bomb.npz", SMALL + 1024
    data = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},)}}", bytes(size))
    archive(path, {"images.npy": data}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size * LARGEST_RATIO < size
    tracemalloc.start()
    with pytest.raises(InputError, match=f"claims to hold {len(data)} bytes and has"):
        read_npz(path, "a set")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_large_arrays_that_are_stored_as_they_are_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("moco_tf.files.npz.SMALL", 100)
    np.savez(tmp_path / "a.npz", a=np.zeros(10_000, np.uint8))
    assert read_npz(tmp_path / "a.npz", "a set")["a"].shape == (10_000,)
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(1_000_000, np.uint8))
    with pytest.raises(InputError, match="more than 32 times its size is not unpacked"):
        read_npz(tmp_path / "b.npz", "a set")


@pytest.mark.parametrize(
    "data",
    [
        header("(" * 300),  # of which NumPy raises what belongs to tokenize
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (10**30,)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1" + "0" * 30 + ",)}"),
        header("{'descr': None, 'fortran_order': False, 'shape': (1,)}", b"a"),
        header("{'descr': '<f4', 'fortran_order': 1, 'shape': (4611686018427387904, 4)}", b"aaaa"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': ()}", b"cos\nsystem\n(S'x'\ntR."),
        npy(np.arange(9))[:-1],
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path, data):
    archive(tmp_path / "a.npz", {"a.npy": data})
    with pytest.raises(InputError, match="is not a set: its arrays cannot be read") as refused:
        read_npz(tmp_path / "a.npz", "a set")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_bytes_that_are_damaged_are_one_line(tmp_path, method):
    path = tmp_path / "a.npz"
    archive(path, {"a.npy": npy(np.arange(999))}, method)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_npz(path, "a set")
