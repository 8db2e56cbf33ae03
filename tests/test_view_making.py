"""Views that differ: the device tells them apart, whatever a step does with their rows."""

import numpy as np
import pytest
import tensorflow as tf
from support.views import making, views_of

from moco_tf.augmentation import TwoViews, View
from moco_tf.data.sources import from_arrays
from moco_tf.data.view_making import DeviceColor, DeviceImages, HostViews, SecondView
from moco_tf.training.accumulation import in_microbatches, pick

DIFFERENT = {"view1": {"gray": 1.0}, "view2": {"solarize": {"threshold": 0}}}
WHOLE = {"crop": {"min_area": 1.0, "aspect": [1, 1]}}  # the image as it is
ROWS = np.array([[6, 1, 0, 3], [5, 2, 4, 7]], np.int32)


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    return from_arrays("test", pixels)


@pytest.mark.parametrize("way", [DeviceColor, DeviceImages])
def test_views_keep_their_number_through_microbatches_in_either_order(images, way):
    both = TwoViews.model_validate({name: own | WHOLE for name, own in DIFFERENT.items()})
    made = making(both, 12, way, pixels=images.pixels)
    view1, view2 = next(iter(views_of(images, both, 12, batch_size=8, seed=0, way=way)))
    assert isinstance(view2, SecondView) and not isinstance(view1, SecondView)

    @tf.function(autograph=False)
    def step(*views):
        def one(rows):
            return {"views": tf.stack([made.on_device(pick(v, rows)) for v in views], axis=1)}

        return in_microbatches(one, tf.constant(ROWS), {"views": "rows"})["views"]

    second, first = tf.unstack(step(view2, view1), axis=1)
    expected = next(iter(views_of(images, both, 12, batch_size=8, seed=0)))
    for ours, host in zip((first, second), expected, strict=True):
        np.testing.assert_array_equal(ours, tf.gather(host, ROWS.ravel()))
    assert np.ptp(first, axis=-1).max() == 0  # gray
    assert np.ptp(second, axis=-1).max() > 0


def test_equal_views_are_not_marked(images):
    views = next(iter(views_of(images, "v2", 12, batch_size=8, seed=0, way=DeviceColor)))
    assert [type(view) for view in views] == [tuple, tuple]


def test_a_whole_crop_is_the_image(images):
    whole = View.model_validate(WHOLE)
    views = next(iter(views_of(images, whole, 12, batch_size=8, seed=0, way=HostViews)))
    for view in views:
        shown = {picture.tobytes() for picture in view.numpy()}
        assert shown == {picture.tobytes() for picture in images.pixels}
