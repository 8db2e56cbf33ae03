"""A folder of many images is told of while it is read."""

import sys

import numpy as np
from PIL import Image

import moco_tf.data.file_sizes
from moco_tf.data.file_set import file_set
from moco_tf.data.image_folder import open_files


def test_how_many_were_looked_at_is_told_at_once(tmp_path, monkeypatch, capfd):
    """Also on stderr, where nothing of the decoders is shown meanwhile."""
    monkeypatch.setattr(moco_tf.data.file_sizes, "TOLD_EVERY", 0.0)
    for n in range(3):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / f"{n}.png")
    said = []

    def told(line):
        print(line, file=sys.stderr, flush=True)
        said.append(capfd.readouterr().err)

    open_files(file_set([tmp_path]), 0.0, told=told)
    assert said == [f"{n} of 3 images looked at\n" for n in (1, 2, 3)]
    said.clear()
    open_files(file_set([tmp_path]), 0.0, told=told)  # their sizes are known now
    assert said == []
