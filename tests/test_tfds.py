"""A data set of TensorFlow Datasets, made here and read by index. Needs the extra `tfds`."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.augmentation.named import view_pair
from moco_tf.data.decode import decode
from moco_tf.data.pipeline import two_views
from moco_tf.data.sources import open_images
from moco_tf.data.view_making import HostViews
from moco_tf.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets", reason="the extra tfds is not installed")
pytest.importorskip("array_record", reason="the extra tfds is not installed")


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """30 + 10 pictures of noise in three classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(30), "test": self._generate_examples(10)}

    def _generate_examples(self, count):
        for n in range(count):
            yield n, {"image": picture(count, n), "label": n % 3}


def picture(count, n):
    return np.random.default_rng([count, n]).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    original = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda n, **k: original(n, data_dir=str(tmp_path), **k))
    return tmp_path


@pytest.mark.slow
def test_pictures_and_labels_are_read_by_index(folder):
    train, test = open_images("tfds:tiny_pictures")
    assert (train.count, test.count, train.class_names) == (30, 10, ("a", "b", "c"))
    for images in (train, test):
        ours = [decode(images.read(tf.constant(n))).numpy() for n in range(images.count)]
        theirs = {picture(images.count, n).tobytes(): n % 3 for n in range(images.count)}
        assert len({image.tobytes() for image in ours}) == images.count
        assert [theirs[image.tobytes()] for image in ours] == list(images.labels)
    making = HostViews(view_pair("v2", 0.2, 1.0), 16)
    views = two_views(train, making, batch_size=8, seed=0, start_step=0)
    assert next(iter(views))[0].shape == (8, 16, 16, 3)


def test_another_format_and_an_unknown_name_are_one_line(folder):
    tfds.builder("tiny_pictures").download_and_prepare()  # as tfrecord, which has no index
    for name in ("tiny_pictures", "no_such_data_set"):
        with pytest.raises(InputError, match=f"data=tfds:{name} could not be opened") as caught:
            open_images(f"tfds:{name}")
        assert "\n" not in str(caught.value)
