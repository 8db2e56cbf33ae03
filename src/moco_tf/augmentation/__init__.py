"""Augmentation as data: `View` and its parts, two of them, and the values that have a name.

Imports no TensorFlow.
"""

from moco_tf.augmentation.named import NAMED, TwoViews
from moco_tf.augmentation.view import Blur, Crop, Jitter, Solarize, View

__all__ = ["NAMED", "Blur", "Crop", "Jitter", "Solarize", "TwoViews", "View"]
