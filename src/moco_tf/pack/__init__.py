"""Writing packs: few large files instead of a folder of images."""

from moco_tf.pack.command import pack as pack
