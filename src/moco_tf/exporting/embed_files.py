"""Features to a file, batch by batch: whole under its name or not at all.

Imports no TensorFlow, and pyarrow only for a .parquet file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from moco_tf.errors import InputError
from moco_tf.exporting.rows import Rows
from moco_tf.files.atomic import (
    make_folder,
    take_lock,
    temporary_name,
    write_atomically,
    write_error,
)

SUFFIXES = (".npy", ".npz", ".parquet", ".csv")
ROWS_A_GROUP = 1024  # of a Parquet file: 8 MiB of 2048 features


def check_target(out: Path, *, overwrite: bool, sources: Iterable[str | None] = ()) -> None:
    """Raises `InputError` for a file that cannot or must not be written.

    Args:
        overwrite: whether a file that exists may be replaced.
        sources: files that are read, which must not be.
    """
    if out.suffix not in SUFFIXES:
        raise InputError(f"out must end in {', '.join(SUFFIXES)}; received out={out}.")
    if out.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError(
                f"out={out} needs an extra: pip install 'moco-tf[parquet]'. Or use .npz or .npy."
            ) from None
    for file in files_of(out):
        if file.is_dir() or (os.path.lexists(file) and not overwrite):
            raise InputError(
                f"out: {file} exists. Use another name, or --overwrite to replace a file."
            )
        read = [source for source in sources if source and os.path.exists(source)]
        if file.exists() and any(os.path.samefile(file, source) for source in read):
            raise InputError(f"out={out} is a file to read from. Use another name.")


def files_of(out: Path) -> tuple[Path, ...]:
    """Returns the files that `save` writes: beside an array alone stands one with the names."""
    return (out, out.with_suffix(".names.txt")) if out.suffix == ".npy" else (out,)


def save(
    out: Path,
    rows: Callable[[], Rows],
    batches: Iterable[np.ndarray],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Writes rows and their features to `out`, whose folder is made.

    A file says first how many rows it has, which is known last: until then the features lie beside
    it, in a file without a name.

    Args:
        rows: called after the last batch.
        batches: float32 [b, D], of all rows in order; held one at a time.
        check: called now and then while the file is written; what it raises ends the writing.

    Raises:
        InputError: if the disk is full or the folder cannot be written to.
    """
    make_folder(out.parent)
    with _replacing(out) as file, tempfile.TemporaryFile(dir=out.parent) as held:
        width = 0
        for batch in batches:
            width = batch.shape[1]
            held.write(np.ascontiguousarray(batch, "<f4").data)
        held.seek(0)
        whose = rows()
        _WRITERS[out.suffix](file, whose, _read_back(held, width, check))
        file.flush()
        os.fsync(file.fileno())
        for names in files_of(out)[1:]:  # never beside the array of other images
            out.unlink(missing_ok=True)
            write_atomically(names, "".join(f"{n}\n" for n in whose.names).encode())


def _read_back(file: IO[bytes], width: int, check: Callable[[], None]) -> Iterator[np.ndarray]:
    """Yields float32 [b, width], `ROWS_A_GROUP` at a time, the last ones possibly fewer."""
    while data := file.read(4 * width * ROWS_A_GROUP):
        check()
        yield np.frombuffer(data, "<f4").reshape(-1, width)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Gives a file under a hidden name, renamed to `path` at the end; at an error it is removed."""
    temporary, size = temporary_name(path), 0
    try:
        with open(temporary, "r+b", opener=_creating) as file:
            take_lock(file, lambda: f"out={path} is being written by another process.")
            try:
                file.truncate()  # what a kill has left
                yield file
                os.replace(temporary, path)
            except BaseException:
                size = os.stat(file.fileno()).st_size
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise write_error(path, size, error) from None


def _creating(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _write_npy(file: IO[bytes], rows: Rows, batches: Iterator[np.ndarray]) -> None:
    _write_matrix(file, len(rows.names), batches)


def _write_npz(file: IO[bytes], rows: Rows, batches: Iterator[np.ndarray]) -> None:
    texts = {"names": np.array(rows.names, str), "split": np.array(rows.splits, str)}
    if rows.labels is not None:
        texts |= {"labels": rows.labels, "classes": np.array(rows.classes, str)}
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            _write_matrix(member, len(rows.names), batches)
        for name, array in texts.items():
            about = zipfile.ZipInfo(f"{name}.npy")
            about.compress_type = zipfile.ZIP_DEFLATED  # four bytes a character, mostly zeros
            with archive.open(about, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_matrix(file: IO[bytes], count: int, batches: Iterator[np.ndarray]) -> None:
    """The array [count, D] of all batches in NumPy's format, without holding it."""
    first = next(batches)
    shape = (count, first.shape[1])
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    for batch in itertools.chain([first], batches):
        file.write(batch.data)


def _write_parquet(file: IO[bytes], rows: Rows, batches: Iterator[np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(batches)
    columns: dict[str, Any] = {
        "name": pa.array(rows.names, pa.string()),
        "split": pa.array(rows.splits, pa.string()),
    }
    if rows.labels is not None:
        known = rows.labels >= 0
        columns["label"] = pa.array(rows.labels, pa.int64(), mask=~known)
        columns["class"] = pa.array(rows.class_names(), pa.string())
    whose = pa.table(columns)
    kind = pa.list_(pa.float32(), first.shape[1])
    schema = whose.schema.append(pa.field("features", kind))
    start = 0
    with pq.ParquetWriter(file, schema, use_dictionary=[*columns][1:]) as writer:
        for group in itertools.chain([first], batches):
            values = pa.FixedSizeListArray.from_arrays(pa.array(group.ravel()), type=kind)
            part = whose.slice(start, len(group)).append_column("features", values)
            writer.write_table(part.cast(schema), row_group_size=len(group))
            start += len(group)


def _write_csv(file: IO[bytes], rows: Rows, batches: Iterator[np.ndarray]) -> None:
    """A header and a line for each row; nine digits give back every float32 as it was."""
    first = next(batches)
    columns: dict[str, list[Any]] = {"name": rows.names, "split": rows.splits}
    if rows.labels is not None:
        columns["label"] = [label if label >= 0 else "" for label in rows.labels.tolist()]
        columns["class"] = rows.class_names()
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, *(f"f{place}" for place in range(first.shape[1]))])
        features = itertools.chain.from_iterable(itertools.chain([first], batches))
        numbers = ",".join(["%.9g"] * first.shape[1])
        for *whose, row in zip(*columns.values(), features, strict=True):
            writer.writerow([*whose, *(numbers % tuple(row.tolist())).split(",")])
    finally:
        text.detach()  # the file is closed by who opened it


_WRITERS = {".npy": _write_npy, ".npz": _write_npz, ".parquet": _write_parquet, ".csv": _write_csv}
