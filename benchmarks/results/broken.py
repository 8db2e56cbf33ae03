"""Our side with one mistake of `mistakes` in it."""

import ours
from mistakes import MISTAKES


def train(images, setting, seed, mistake):
    with MISTAKES[mistake]():
        return ours.train(images, setting, seed)
