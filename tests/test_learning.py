"""Training learns, and the test can tell: views of different images must teach nothing."""

import numpy as np
import pytest
import tensorflow as tf

import moco_tf.building.batches
from moco_tf.config import make_config
from moco_tf.pretraining import pretrain
from moco_tf.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("shallow")

# Points of kNN top-1 above the untrained encoder. Seen with seed 0: 18; with views of different
# images: 0.
MARGIN = 9


def run(tmp_path, seed, monkeypatch=None):
    if monkeypatch:
        original = moco_tf.building.batches.views_of

        def unrelated_views(*args, **kwargs):
            return original(*args, **kwargs).map(
                lambda a, b: (a, tf.nest.map_structure(lambda part: tf.roll(part, 1, axis=0), b))
            )

        monkeypatch.setattr(moco_tf.building.batches, "views_of", unrelated_views)
    changes = {
        "seed": seed,
        "epochs": 6,
        "width": 8,
        "knn_every": 0,
        "run_dir": str(tmp_path / f"run{seed}"),
    }
    return pretrain(make_config(RECIPES["shapes"].config, changes))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.long) for s in (1, 2))])
def test_training_beats_the_untrained_encoder(tmp_path, seed):
    summary = run(tmp_path, seed)
    assert np.isfinite(summary["loss"])
    assert summary["knn_top1"] > summary["knn_top1_untrained"] + MARGIN


@pytest.mark.long
@pytest.mark.slow
def test_views_of_different_images_teach_nothing(tmp_path, monkeypatch):
    summary = run(tmp_path, 0, monkeypatch)
    assert summary["knn_top1"] < summary["knn_top1_untrained"] + MARGIN
