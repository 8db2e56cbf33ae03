"""A data set of TensorFlow Datasets, prepared as array_record and read by index."""

import contextlib
import sys
from dataclasses import replace

import numpy as np
import tensorflow as tf

from moco_tf.data.images import Images
from moco_tf.data.listing import split_kind
from moco_tf.errors import InputError


def open_tfds(name: str, split: str | None) -> tuple[Images, Images | None]:
    """Returns the training and the test images of a data set of TensorFlow Datasets."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(f"data=tfds:{name} needs an extra: pip install 'moco-tf[tfds]'.") from None
    try:
        # Of its formats array_record can be read by index.
        with contextlib.redirect_stdout(sys.stderr):
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
        if "train" not in builder.info.splits:
            raise InputError(f"data=tfds:{name} has no split named train.")
        wanted = [s for s in ("validation", "test") if split in (None, split_kind(s))]
        tests = [s for s in wanted if s in builder.info.splits][:1]
        parts = [_tfds_split(tfds, builder, s) for s in ["train", *tests]]
        others = sorted(set(builder.info.splits) - {"train", *tests})
        parts[0] = replace(parts[0], passed_over=tuple(others))
    except InputError:
        raise
    except Exception as error:  # a download, a manual step, a format: many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"data=tfds:{name} could not be opened: {reason}") from None
    return parts[0], parts[1] if len(parts) > 1 else None


def _tfds_split(tfds, builder, split):
    features = builder.info.features
    if "image" not in features:
        raise InputError(f"data=tfds:{builder.name} has no feature named image.")
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    labels, class_names = None, ()
    if "label" in features and isinstance(features["label"], tfds.features.ClassLabel):
        labels = np.array([row["label"] for row in source], np.int64)
        class_names = tuple(features["label"].names)

    def read(index):
        encoded = tf.numpy_function(
            lambda i: source[int(i)]["image"], [index], tf.string, stateful=False
        )
        return tf.ensure_shape(encoded, [])

    return Images(
        f"tfds:{builder.name}",
        len(source),
        read,
        True,
        labels=labels,
        class_names=class_names,
        split=split,
    )
