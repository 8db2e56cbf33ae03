"""Baselines are computed once for the same images and settings, and kept."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from moco_tf.config import Config
from moco_tf.data.sources import from_arrays, open_images
from moco_tf.evaluate.baselines import FILE, MOST, key_of, once
from moco_tf.files.digests import read_json

FOUND = {"untrained": 30.0, "pixels": 20.0}


def test_kept_for_its_key_and_the_oldest_goes_first(tmp_path):
    for number in range(MOST + 1):
        assert once(tmp_path, f"k{number}", lambda: FOUND, pytest.fail) == FOUND
    kept = read_json(tmp_path / FILE)
    assert list(kept) == [f"k{number}" for number in range(1, MOST + 1)]
    assert once(tmp_path, "k5", pytest.fail, pytest.fail) == FOUND
    assert once(None, "k5", lambda: {"untrained": 1.0, "pixels": 2.0}, pytest.fail)["pixels"] == 2.0


@pytest.mark.parametrize("kept", [{}, {"untrained": 1.0}, {"untrained": "x", "pixels": 2.0}, 3])
def test_what_is_no_result_is_computed_again(tmp_path, kept):
    (tmp_path / FILE).write_text(json.dumps({"key": kept}))  # without a digest, as others write it
    assert once(tmp_path, "key", lambda: FOUND, pytest.fail) == FOUND
    assert read_json(tmp_path / FILE) == {"key": FOUND}


def test_the_key_changes_with_all_that_the_numbers_depend_on(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    labels, places = np.array([0, 1, 0, 1, 0, 1]), np.arange(6)
    config = Config(image_size=8, stem="small")

    def key(config=config, k=5, pixels=pixels, labels=labels, places=places):
        return key_of(config, {"k": k}, (from_arrays("a", pixels, labels), places))

    others = [
        key(),
        key(config=config.model_copy(update={"seed": 1})),
        key(config=config.model_copy(update={"width": 32})),
        key(config=config.model_copy(update={"normalization": "none"})),
        key(k=6),
        key(pixels=pixels ^ 1),
        key(labels=labels[::-1]),
        key(places=places[:5]),
    ]
    assert len(set(others)) == len(others) and key() == others[0]
    # What only training depends on changes nothing.
    assert key(config=config.model_copy(update={"epochs": 7, "batch_size": 64})) == others[0]


def test_files_whose_names_are_no_utf8_are_told_apart_by_their_bytes(tmp_path):
    strange = tmp_path / os.fsdecode(b"caf\xe9.png")
    for path in (strange, tmp_path / "plain.png"):
        Image.new("RGB", (8, 8), "red").save(path)

    def key():
        images, _ = open_images(str(tmp_path))
        images = replace(images, labels=np.zeros(2, np.int64))
        return key_of(Config(image_size=8, stem="small"), {}, (images, np.arange(2)))

    before = key()
    assert key() == before
    Image.new("RGB", (8, 8), "blue").save(strange)
    assert key() != before
