"""Where the two views of an image are made: one class for each way, host half and device half.

`on_host(images, index, seed, position)` gives (view 1, view 2) of the image at `index`, whose place
in the whole run is `position`. `on_device` makes of a batch of either uint8 [B, S, S, 3].
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import tensorflow as tf

from moco_tf.augmentation import View
from moco_tf.data.augment.crop import (
    TRIES,
    random_crop_window,
    resize,
    resized_crops,
    resized_crops_batch,
)
from moco_tf.data.augment.padded import pad_image, padded_shape
from moco_tf.data.augment.simclr import simclr, simclr_window
from moco_tf.data.augment.views import CROP_DRAWS, augment, augment_batch, seed_pair, view_draws
from moco_tf.data.decode import crop, decoded


class SecondView(NamedTuple):
    """Marks view 2 where the device finishes it otherwise than view 1."""

    parts: Any


class _Making:
    """What all ways have.

    Args:
        views: `View` 1 and 2, without anything left open.
        image_size: S.
    """

    def __init__(self, views: tuple[View, View], image_size: int):
        self.views, self.image_size = views, image_size
        self.filters = [view.crop.interpolation for view in views]

    def _windows(self, image, draws):
        """Windows of both crops, int32 [2, 4], by draws [2, DRAWS]."""
        height, width = tf.unstack(tf.shape(image)[:2])
        tries = tf.reshape(draws[:, :CROP_DRAWS], [2, TRIES, 4])
        first, second = (view.crop for view in self.views)
        if first == second:  # at once: many small operations
            return window(tries, height, width, first)
        own = window(tries[0], height, width, first), window(tries[1], height, width, second)
        return tf.stack(own)

    def _sent(self, first, second):
        return first, second if self.views[0] == self.views[1] else SecondView(second)

    def _received(self, view):
        marked = isinstance(view, SecondView)
        return self.views[marked], view.parts if marked else view


@cache
def _finishing(view):
    """Returns the function that finishes crops, traced once for all pipelines with such views."""
    return tf.function(partial(augment, view=view), autograph=False)


class HostViews(_Making):
    """The host makes whole views: uint8 [S, S, 3]."""

    def __init__(self, views: tuple[View, View], image_size: int):
        super().__init__(views, image_size)
        self._finish = tuple(map(_finishing, views))

    def on_host(self, images, index, seed, position):
        image, draws = decoded(images, index), both_draws(seed, position)
        if self.views[0].family == "simclr":
            return tuple(self._simclr(image, draws[n], seed, position, n) for n in (0, 1))
        crops = resized_crops(image, self._windows(image, draws), self.image_size, self.filters)
        parts = zip(self._finish, tf.unstack(crops), tf.unstack(draws[:, CROP_DRAWS:]), strict=True)
        return tuple(finish(one, own) for finish, one, own in parts)

    def _simclr(self, image, draws, seed, position, number):
        view, (height, width) = self.views[number], tf.unstack(tf.shape(image)[:2])
        place = simclr_window(seed_pair(seed, position, number), height, width, view.crop)
        side = [self.image_size] * 2
        resized = resize(crop(image, place), side, view.crop.interpolation, antialias=False)
        return simclr(resized, draws[CROP_DRAWS:], view)

    def on_device(self, view):
        return view


class DeviceColor(_Making):
    """The host crops and resizes: uint8 [S, S, 3], with draws [16]. The device does the rest."""

    def on_host(self, images, index, seed, position):
        image, draws = decoded(images, index), both_draws(seed, position)
        crops = resized_crops(image, self._windows(image, draws), self.image_size, self.filters)
        return self._sent(*zip(tf.unstack(crops), tf.unstack(draws[:, CROP_DRAWS:]), strict=True))

    def on_device(self, view):
        view, (crops, draws) = self._received(view)
        return augment_batch(crops, draws, view)


class DeviceCrop(_Making):
    """The host lays images on canvases, [H, W, 3], with windows [4] and draws [16].

    A crop of Pillow's and of the device differ by a grey level where rounding is a tie.
    """

    def on_host(self, images, index, seed, position):
        image, draws = decoded(images, index), both_draws(seed, position)
        shape = padded_shape(images.sizes, self.image_size)
        windows = self._windows(image, draws)
        canvas, windows = pad_image(image, windows, shape, self.image_size, self.filters)
        return self._sent(*((canvas, windows[n], draws[n, CROP_DRAWS:]) for n in (0, 1)))

    def on_device(self, view):
        view, (canvases, windows, draws) = self._received(view)
        return self._finished(canvases, windows, draws, view)

    def _finished(self, images, windows, draws, view):
        crops = resized_crops_batch(images, windows, self.image_size, view.crop.interpolation)
        return augment_batch(crops, draws, view)


class DeviceImages(DeviceCrop):
    """The device holds all images: the host gives places in the set, int64, and draws [DRAWS].

    Args:
        pixels: gives all images, uint8 [n, h, w, 3], on the device that asks.
    """

    def __init__(self, views: tuple[View, View], image_size: int, pixels: Callable):
        super().__init__(views, image_size)
        self.pixels = pixels

    def on_host(self, images, index, seed, position):
        draws = both_draws(seed, position)
        return self._sent(*((index, own) for own in tf.unstack(draws)))

    def on_device(self, view):
        view, (places, draws) = self._received(view)
        pixels, tries = self.pixels(), tf.reshape(draws[:, :CROP_DRAWS], [-1, TRIES, 4])
        windows = window(tries, pixels.shape[1], pixels.shape[2], view.crop)
        return self._finished(tf.gather(pixels, places), windows, draws[:, CROP_DRAWS:], view)


class FunctionViews:
    """The host calls a user's function(image, seed): uint8 [h, w, 3], int64 [2] -> [S, S, 3]."""

    def __init__(self, function: Callable, image_size: int):
        self.function, self.shape = function, [image_size, image_size, 3]

    def on_host(self, images, index, seed, position):
        image = decoded(images, index)
        views = (self.function(image, seed_pair(seed, position, n)) for n in (0, 1))
        return tuple(tf.ensure_shape(view, self.shape) for view in views)

    def on_device(self, view):
        return view


def both_draws(seed, position):
    """Draws of both views of an image, [2, DRAWS]."""
    return tf.stack([view_draws(seed, position, number) for number in (0, 1)])


def window(tries, height, width, of_crop):
    """Random windows, int32 [..., 4], by draws [..., TRIES, 4]; `of_crop` has all its numbers."""
    limits = of_crop.min_area, of_crop.max_area, of_crop.aspect
    return random_crop_window(tries, height, width, *limits)
