"""An image as a `tf.train.Example` with ImageNet's keys, which any TensorFlow program reads.

Its bytes end with the image's, so that an index needs no more than where those lie. The wire
format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os

import tensorflow as tf

from moco_tf.data.images import Images

_KEY = b"image/encoded"
_FORMATS = {
    b"\xff\xd8": b"JPEG",
    b"\x89PNG": b"PNG",
    b"BM": b"BMP",
    b"GIF8": b"GIF",
    b"RIFF": b"WEBP",
    b"II*\0": b"TIFF",
    b"MM\0*": b"TIFF",
}


def before_image(contents: bytes, images: Images, index: int) -> bytes:
    """Returns the Example of the image at `index` without its last bytes, which are `contents`.

    Beside `image/encoded` it holds `image/format`, `image/filename`, `image/class/label` (a place
    in `images.class_names`) and `image/class/text`, each where it is known.
    """
    kind = next((kind for start, kind in _FORMATS.items() if contents.startswith(start)), None)
    texts = {"image/format": kind}
    if images.paths:
        texts["image/filename"] = os.fsencode(images.paths[index])
    features = {}
    if images.labels is not None and (label := int(images.labels[index])) >= 0:
        value = tf.train.Int64List(value=[label])
        features["image/class/label"] = tf.train.Feature(int64_list=value)
        if images.class_names:
            texts["image/class/text"] = images.class_names[label].encode("utf-8", "replace")
    for key, text in texts.items():
        if text:
            features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    small = tf.train.Features(feature=features).SerializeToString(deterministic=True)
    after = len(contents)
    head = b""
    for prefix in (b"\x0a", b"\x0a", b"\x0a" + _varint(len(_KEY)) + _KEY + b"\x12", b"\x0a"):
        head = prefix + _varint(len(head) + after) + head  # value, list, entry, Features' field
    return b"\x0a" + _varint(len(small) + len(head) + after) + small + head


def _varint(number: int) -> bytes:
    digits = []
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
