"""The index of TFRecords and random reads by it, beside TFRecordDataset and ArrayRecord.

    python benchmarks/records.py FOLDER [--records 1000000] [--reads 100000]

Writes small `tf.train.Example` (300 to 900 bytes of an image, ImageNet's other keys) into FOLDER,
1.3 KB of disk a record with the copy for ArrayRecord, and prints one line for each measurement.
"""

import argparse
import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.stream import mapped
from moco_tf.data.tfrecord.index import open_index
from moco_tf.data.tfrecord.reading import record_reader
from moco_tf.data.tfrecord.shards import list_shards

SHARDS = 8


def write(folder, count):
    """Writes the records, and the images alone once more as ArrayRecord where that is installed."""
    rng = np.random.default_rng(0)
    images = [rng.bytes(int(size)) for size in rng.integers(300, 900, 1000)]
    for number, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
        path = folder / f"train-{number:05d}-of-{SHARDS:05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows.tolist():
                writer.write(record(images[row % 1000], row))


def record(image, row):
    texts = {"image/encoded": image, "image/format": b"JPEG", "image/filename": b"n%d.JPEG" % row}
    features = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
        for key, text in (texts | {"image/class/text": b"class %d" % (row % 1000)}).items()
    }
    for key, number in (("image/class/label", 1 + row % 1000), ("image/height", 375)):
        features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def timed(what, function, count):
    before, cpu = time.perf_counter(), time.process_time()
    found = function()
    seconds, used = time.perf_counter() - before, time.process_time() - cpu
    rate = f"{count / seconds:,.0f} records/s"
    print(f"{what}: {seconds:.2f} s, {used:.2f} s of the CPU, {rate}", flush=True)
    return found


def random_reads(read, count, reads):
    """Reads single records at random places through tf.data, on all cores."""
    places = np.random.default_rng(1).integers(0, count, reads)
    dataset = mapped(tf.data.Dataset.from_tensor_slices(places), read).batch(1024)
    return sum(len(batch) for batch in dataset)


def array_record(folder, shards, reads, count):
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from array_record.python.array_record_module import ArrayRecordWriter
    except ImportError as error:
        print(f"ArrayRecord: not measured, for {error}")
        return
    path = str(folder / "all.array_record")
    writer = ArrayRecordWriter(path, "group_size:1")
    for one in tf.data.TFRecordDataset([str(shard) for shard in shards]):
        writer.write(one.numpy())
    writer.close()
    source = ArrayRecordDataSource(path)
    places = np.random.default_rng(1).integers(0, count, reads)

    def one_by_one():
        for place in places.tolist():
            source[place]

    def in_tf_data():
        read = lambda i: tf.numpy_function(lambda n: source[int(n)], [i], tf.string)  # noqa: E731
        dataset = mapped(tf.data.Dataset.from_tensor_slices(places), read).batch(1024)
        return sum(len(batch) for batch in dataset)

    timed("ArrayRecord, random reads by __getitem__, one thread", one_by_one, reads)
    timed("ArrayRecord, random reads through tf.data", in_tf_data, reads)
    timed("ArrayRecord, random reads, 1024 a call", lambda: blocks(source, places), reads)


def blocks(source, places):
    for first in range(0, len(places), 1024):
        source.__getitems__(places[first : first + 1024].tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=100_000)
    options = parser.parse_args()
    folder, count = options.folder / f"records-{options.records}", options.records
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    shutil.rmtree(folder / "cache", ignore_errors=True)
    if not folder.exists():
        folder.mkdir(parents=True)
        write(folder, count)
    shards = list_shards(f"tfrecord:{folder}/train-*")
    size = sum(path.stat().st_size for path in shards.train)
    print(f"{count} records in {len(shards.train)} shards, {size / 1e6:.0f} MB")
    cache = folder / "cache"
    cache.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    timed("index made", lambda: open_index(shards.train, shards.keys, cache), count)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    (kept,) = cache.iterdir()
    print(
        f"index: {kept.stat().st_size} bytes on disk, {more / 1e3:.0f} MB more memory at its peak"
    )
    index = timed("index opened", lambda: open_index(shards.train, shards.keys, cache), count)
    names = [str(path) for path in shards.train]
    in_order = lambda: sum(1 for _ in tf.data.TFRecordDataset(names).batch(4096))  # noqa: E731
    timed("TFRecordDataset, all in order", in_order, count)
    rows = {"shard": index.shards, "offset": index.offsets, "length": index.lengths}
    read = record_reader(shards.train.__getitem__, rows, "")
    random = lambda: random_reads(read, count, options.reads)  # noqa: E731
    timed("random reads through tf.data", random, options.reads)
    array_record(folder, shards.train, options.reads, count)


if __name__ == "__main__":
    main()
