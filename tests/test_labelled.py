"""Which images a classifier is trained on and judged on."""

from types import SimpleNamespace

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.evaluate.labelled import open_labelled

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
CONFIG = SimpleNamespace(recipe="shapes", data="shapes", seed=0, image_size=8)


def labelled(path, train, test, **options):
    np.savez(path, x_train=PIXELS, y_train=train, x_test=PIXELS[: len(test)], y_test=test)
    said = []
    return open_labelled(str(path), CONFIG, max_bad_images=0, say=said.append, **options), said


def test_images_without_a_label_are_left_out_and_counted(tmp_path):
    data, said = labelled(tmp_path / "a.npz", [-1, 0, 1, -1, 0, 1, 1, 0], [1, -1, 0, 0])
    assert data.train.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert data.test.labels.tolist() == [1, 0, 0]
    assert data.classes == 2 and data.class_names == ("0", "1")
    assert data.indices.tolist() == [1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(data.train.read(2), PIXELS[4])
    np.testing.assert_array_equal(data.test.read(1), PIXELS[2])
    assert said[1] == "3 images without a label are left out"
    assert data.found == {"split": "test", "unlabelled": 3, "left_out": {}}


def test_with_all_labels_the_images_are_as_they_were(tmp_path):
    data, said = labelled(tmp_path / "a.npz", [0, 1] * 4, [1, 0], split="test")
    assert data.train.pixels is not None  # no subset of them
    assert data.indices.tolist() == list(range(8)) and said == []
    assert data.found == {"split": "test", "unlabelled": 0, "left_out": {}}


def test_labels_of_minus_and_plus_one_are_no_two_classes(tmp_path):
    message = r"at least 2 classes; .* has 1 \(a label of -1 is unknown\)"
    with pytest.raises(InputError, match=message):
        labelled(tmp_path / "a.npz", [-1, 1] * 4, [1, -1])


def test_a_part_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no part known as val"):
        labelled(tmp_path / "a.npz", [0, 1] * 4, [1, 0], split="val")
