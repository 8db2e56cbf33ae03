"""TFRecord files of `tf.train.Example`, as ImageNet's scripts write them."""

import numpy as np
import tensorflow as tf


def feature(value):
    """A feature of one value, or none for an empty one."""
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.atleast_1d(value).tolist()))


def example(**features):
    """One record; `_` in a name stands for a slash."""
    named = {name.replace("_", "/"): feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def imagenet(encoded, label, text):
    """A record with ImageNet's keys."""
    return example(
        image_height=24,
        image_colorspace=b"RGB",
        image_class_label=label,
        image_class_text=text.encode(),
        image_format=b"PNG",
        image_filename=b"n01440764_10026.JPEG",
        image_encoded=encoded,
    )


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write_shards(folder, records, count, part="train"):
    """Spreads the records, in order, over shards called as ImageNet's."""
    for number, rows in enumerate(np.array_split(np.arange(len(records)), count)):
        path = folder / f"{part}-{number:05d}-of-{count:05d}"
        write(path, [records[row] for row in rows])
