"""The functions that `moco_tf` offers and the commands call: they unpack and call, no more.

What is wrong with the arguments is told before TensorFlow is imported.
"""
