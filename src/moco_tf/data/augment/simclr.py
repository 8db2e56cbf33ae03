"""SimCLR's augmentations (arXiv:2002.05709, appendix A), every draw per image.

SimCLR's own code blurs a whole batch with one sigma; here each image has its own.
"""

import tensorflow as tf

from moco_tf.data.augment.views import jitter_factors


def simclr_window(seed_pair, height, width, min_area):
    """Returns a random window, int32 [4], of TensorFlow's distorted bounding box (100 tries)."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed_pair,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(min_area, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def simclr(crop, draws, strength):
    """Returns uint8 [S, S, 3]: flip .5, jitter .8, gray .2, blur .5.

    Args:
        crop: uint8 [S, S, 3], resized bicubically.
        draws: uniform numbers, [16].
        strength: of the jitter; 1 is SimCLR's ImageNet default, 0.5 MoCo v2's values.
    """
    u = draws
    image = tf.cast(crop, tf.float32) / 255
    image = tf.cond(u[12] < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)
    factors = jitter_factors(u[1:5], [0.8 * strength] * 3 + [0.2 * strength])
    order = tf.argsort(u[5:9])
    image = tf.cond(u[0] < 0.8, lambda: _jitter(image, factors, order), lambda: image)
    gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    image = tf.where(u[9] < 0.2, gray, image)
    image = tf.clip_by_value(image, 0, 1)
    sigma = 0.1 + 1.9 * u[11]
    image = tf.cond(u[10] < 0.5, lambda: sampled_gaussian_blur(image, sigma), lambda: image)
    image = tf.clip_by_value(tf.round(image * 255), 0, 255)
    return tf.ensure_shape(tf.cast(image, tf.uint8), crop.shape)


def _jitter(image, factors, order):
    operations = (
        lambda x, f: x * f,
        tf.image.adjust_contrast,
        tf.image.adjust_saturation,
        tf.image.adjust_hue,
    )
    for position in range(4):
        branches = [
            lambda op=op, k=k, x=image: tf.clip_by_value(op(x, factors[k]), 0, 1)
            for k, op in enumerate(operations)
        ]
        image = tf.switch_case(order[position], branches)
        image.set_shape([None, None, 3])
    return image


def sampled_gaussian_blur(image, sigma):
    """Blurs with a sampled Gaussian of radius side // 20; zero beyond the edges (SAME)."""
    radius = max(int(image.shape[0]) // 20, 1)
    x = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-tf.square(x) / (2 * tf.square(sigma)))
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None, None, None], [1, 1, 3, 1])
    blurred = image[None]
    for shaped in (kernel, tf.transpose(kernel, [1, 0, 2, 3])):
        blurred = tf.nn.depthwise_conv2d(blurred, shaped, [1, 1, 1, 1], "SAME")
    return blurred[0]
