"""Ways to make views, from the name of an augmentation or a description."""

from moco_tf.augmentation.named import view_pair
from moco_tf.data.pipeline import two_views
from moco_tf.data.view_making import DeviceImages, HostViews


def making(augmentation, image_size, way=HostViews, *, min_area=0.2, color=1.0, pixels=None):
    """`way` with both views of that augmentation; of `DeviceImages`, the images `pixels`."""
    held = {"pixels": lambda: pixels} if way is DeviceImages else {}
    return way(view_pair(augmentation, min_area, color), image_size, **held)


def views_of(images, augmentation, image_size, *, batch_size, seed, start_step=0, **changes):
    """The dataset of `two_views` of these."""
    made = making(augmentation, image_size, **changes)
    sizes = {"batch_size": batch_size, "seed": seed, "start_step": start_step}
    return two_views(images, made, **sizes)
