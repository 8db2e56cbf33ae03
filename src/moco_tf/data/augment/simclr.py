"""SimCLR's augmentations (arXiv:2002.05709, appendix A), every draw per image.

SimCLR's own code blurs a whole batch with one sigma; here each image has its own.
"""

import tensorflow as tf

from moco_tf.data.augment.views import (
    BLUR,
    FACTORS,
    GRAY,
    HORIZONTAL,
    JITTER,
    ORDER,
    SIGMA,
    SOLARIZE,
    flip,
    jitter_factors,
    turned,
)


def simclr_window(seed_pair, height, width, crop):
    """Returns a random window, int32 [4], of TensorFlow's distorted bounding box (100 tries).

    Args:
        crop: `Crop` with all its numbers.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed_pair,
        min_object_covered=0.1,
        aspect_ratio_range=crop.aspect,
        area_range=(crop.min_area, crop.max_area),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def simclr(crop, draws, view):
    """Returns uint8 [S, S, 3]: the flip left to right and then what else `view` describes.

    Args:
        crop: uint8 [S, S, 3], resized.
        draws: uniform numbers, [16].
        view: `View` of SimCLR's family.
    """
    u = draws
    image = tf.cast(crop, tf.float32) / 255
    image = flip(image, u[HORIZONTAL], view.horizontal_flip)
    for name in view.operations:
        if name == "jitter":
            factors = jitter_factors(u[FACTORS], view.jitter.strengths)
            order = tf.argsort(u[ORDER])
            done = u[JITTER] < view.jitter.probability
            image = tf.cond(
                done, lambda x=image, f=factors, o=order: _jitter(x, f, o), lambda x=image: x
            )
        elif name == "gray":
            gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
            image = tf.where(u[GRAY] < view.gray, gray, image)
        elif name == "blur":
            low, high = view.blur.sigma
            sigma = low + (high - low) * u[SIGMA]
            done = u[BLUR] < view.blur.probability
            image = tf.cond(
                done, lambda x=image, s=sigma: sampled_gaussian_blur(x, s), lambda x=image: x
            )
        else:
            inverted = tf.where(image < view.solarize.threshold / 255, image, 1 - image)
            image = tf.where(u[SOLARIZE] < view.solarize.probability, inverted, image)
        image = tf.clip_by_value(image, 0, 1)
    image = tf.clip_by_value(tf.round(image * 255), 0, 255)
    return turned(tf.ensure_shape(tf.cast(image, tf.uint8), crop.shape), u, view)


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
