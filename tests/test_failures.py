"""A pipeline that ends early says why, and names the file."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.data.decode import decode
from moco_tf.data.failures import failure_of_step, reason
from moco_tf.data.order import images_of_step
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import Images, open_images
from moco_tf.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        Image.new("RGB", (20 + number, 10), (200, number, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"BM\0", b"II*\0\0"])
def test_evaluation_names_a_file_that_broke_meanwhile(folder, content):
    images, _ = open_images(str(folder))
    (folder / "4.png").write_bytes(content)
    done = []
    with pytest.raises(InputError, match=rf"^{folder / '4.png'} could not be read \(.*The next"):
        done.extend(eval_batches(images, indices=np.arange(7), image_size=8, batch_size=3))
    assert [len(batch) for batch in done] == [3]


def never_enough(sizes, files):
    """Images whose reading asks for 4 EiB."""

    def read(index):
        return tf.zeros([2**20 + tf.cast(index, tf.int32), 2**20, 2**20, 3], tf.uint8)[0]

    return Images("huge", len(sizes), read, False, sizes=np.array(sizes, np.int32), files=files)


def test_memory_that_does_not_suffice_is_told_as_that_with_the_largest_image():
    sizes, files = [(10, 10), (1, 20000), (30, 30), (400, 20000)], ("a", "line", "c", "panorama")
    settings = {"indices": np.arange(4), "image_size": 8, "batch_size": 3}
    with pytest.raises(
        InputError, match=r"^there was not enough memory .* line is the largest"
    ) as e:
        list(eval_batches(never_enough(sizes, files), **settings))
    assert "(20000 x 1 pixels), (" in str(e.value) and "could not be read" not in str(e.value)
    assert str(e.value).endswith("Make that image smaller or take it away, or free some memory.")
    with pytest.raises(InputError, match=r"of which number 1 is the largest"):
        list(eval_batches(never_enough(sizes, None), **settings))


def test_pythons_memory_error_in_the_decoder_is_one_too(folder, monkeypatch):
    for number in range(7):
        Image.new("RGB", (20 + number, 10)).save(folder / f"{number}.png", "BMP")
    images, _ = open_images(str(folder))

    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr("moco_tf.data.pillow.Image.open", fails)
    with pytest.raises(InputError, match=r"^there was not enough memory .*6\.png is the largest"):
        list(eval_batches(images, indices=np.arange(7), image_size=8, batch_size=7))


def test_a_training_step_is_told_with_what_is_saved():
    images = never_enough([(10, number + 1) for number in range(9)], tuple("abcdefghi"))
    settings = {"seed": 3, "batch_size": 2, "epoch_steps": 4}
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    said = str(failure_of_step(error, images, 5, **settings))
    largest = "abcdefghi"[images_of_step(step=5, count=9, **settings).max()]
    assert said == (
        f"there was not enough memory for a batch of images, of which {largest} is the largest "
        f"({'abcdefghi'.index(largest) + 1} x 10 pixels), after step 5, which is saved (OOM when "
        f"allocating). Make that image smaller or take it away, or free some memory."
    )


def test_bytes_that_are_no_image_are_told_without_tensorflows_words():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(b"nope")
    assert reason(caught.value).startswith("it is no JPEG, PNG, BMP")
