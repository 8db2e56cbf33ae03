"""Images of many sizes on canvases of one, so that a device can crop and resize a whole batch."""

import numpy as np
import tensorflow as tf

from moco_tf.data.augment.crop import resize_with_pillow

LARGEST = 2.5  # sides of a crop: a larger image is cropped and resized on the host
FITTING_SHARE = 0.5  # of the images, at least: or the host has most of its work, and more to send


def padded_shape(sizes, side):
    """Returns (height, width) of the canvas for images of `sizes`, or None if too many are large.

    Args:
        sizes: int [n, 2], height and width of each image, pixels; None: not known.
        side: of a crop, pixels.
    """
    if sizes is None:
        return None
    fits = (sizes <= LARGEST * side).all(axis=1)
    if fits.mean() < FITTING_SHARE:
        return None
    height, width = sizes[fits].max(axis=0).tolist()
    if fits.all():
        return height, width
    return max(height, side), max(width, 2 * side)  # room for two crops, see `pad_image`


def pad_image(image, windows, shape, side, filters):
    """Returns (uint8 [H, W, 3], int32 [2, 4]): a canvas, and where its two crops lie on it.

    An image that fits lies in its top left corner. Of another, both crops lie there side by side,
    resized already: a window of a crop's own size stays what it is.

    Args:
        image: uint8 [h, w, 3].
        windows: int32 [2, 4]: top, left, height and width of each crop in the image.
        shape: (H, W) of `padded_shape`.
        side: of a crop, pixels.
        filters: interpolation of each crop.
    """

    def place(image, windows):
        canvas, (height, width) = np.zeros((*shape, 3), np.uint8), image.shape[:2]
        if height <= shape[0] and width <= shape[1]:
            canvas[:height, :width] = image
            return canvas, windows
        crops = resize_with_pillow(image, windows, side, filters)
        for left, crop in zip((0, side), crops, strict=True):
            canvas[:side, left : left + side] = crop
        return canvas, np.array([[0, 0, side, side], [0, side, side, side]], np.int32)

    canvas, placed = tf.numpy_function(
        place, [image, windows], [tf.uint8, tf.int32], stateful=False
    )
    return tf.ensure_shape(canvas, [*shape, 3]), tf.ensure_shape(placed, [2, 4])
