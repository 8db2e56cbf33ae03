"""Whole runs on two devices are those of one: in doubles, but for rounding."""

import numpy as np
import pytest
from PIL import Image
from support.records import imagenet, write_shards
from support.runs import config, metrics

from moco_tf.pretraining import pretrain
from moco_tf.runs import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow")]
DOUBLES = {"precision": "float64", "group_size": 4, "max_steps": 4}


def state(run_dir):
    return checkpoint.load_latest(run_dir / "checkpoints", warn=pytest.fail)[0]


def assert_equal(run_dir, reference):
    found, wanted = state(run_dir), state(reference)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    losses = [[row["loss"] for row in metrics(run)] for run in (run_dir, reference)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-9)
    assert len(losses[0]) == 4


@pytest.mark.long
def test_records_on_two_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random, records = np.random.default_rng(0), []
    for number in range(48):
        file = tmp_path / "picture.png"
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)
        records.append(imagenet(file.read_bytes(), number % 3, ""))
    write_shards(tmp_path, records, 7)
    pattern = f"tfrecord:{tmp_path}/train-*"
    for devices in (1, 2):
        pretrain(config(pattern, tmp_path / str(devices), devices=devices, **DOUBLES))
    assert_equal(tmp_path / "2", tmp_path / "1")


@pytest.mark.long
def test_unequal_views_on_two_devices_in_microbatches(data, tmp_path):
    """MoCo v3's views: another blur and solarization in the second."""
    views = DOUBLES | {"augmentation": "v3", "symmetric": True}
    pretrain(config(data, tmp_path / "one", **views))
    pretrain(config(data, tmp_path / "two", devices=2, accumulation_steps=2, **views))
    assert_equal(tmp_path / "two", tmp_path / "one")
    pretrain(config(data, tmp_path / "v2", **views | {"augmentation": "v2"}))
    first = [metrics(tmp_path / run)[0]["loss"] for run in ("one", "v2")]
    assert first[0] != first[1]


@pytest.mark.long
def test_unequal_views_in_float16_on_two_devices_resume_bit_for_bit(data, tmp_path):
    changes = {"augmentation": "v3", "precision": "mixed_float16", "group_size": 4}
    changes |= {"devices": 2, "accumulation_steps": 2}
    whole = pretrain(config(data, tmp_path / "whole", **changes))
    pretrain(config(data, tmp_path / "run", max_steps=4, **changes))
    resumed = pretrain(config(data, tmp_path / "run", **changes))
    assert resumed["state_sha256"] == whole["state_sha256"]
    assert all(np.isfinite(row["loss"]) for row in metrics(tmp_path / "whole"))
