"""Progress of a pass over images."""

import numpy as np

from moco_tf.evaluate import counted as module
from moco_tf.evaluate.counted import counted


def test_a_line_every_few_seconds_with_images_done_and_speed(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    for _ in counted([np.ones(10)] * 8, 75, "encoder, test images", said.append):
        clock[0] += 2.0  # 10 images in 2 s
    # The first batch, which compiles, does not count: 20 images in 4 s.
    assert said == [
        "encoder, test images: 30/75  5 images/s",
        "encoder, test images: 60/75  5 images/s",
    ]


def test_batches_come_through_as_they_are():
    batches = [(np.zeros((4, 2)), np.array([1, 2, -1, -1]))] * 2
    for say in (None, print):
        passed = list(counted(batches, 6, "x", say))
        assert all(a is b for a, b in zip(passed, batches, strict=True))
