"""What learning needs and no short accuracy can tell, through a run's own objects.

Each check is shown to see the mistake that `benchmarks/results/mistakes.py` makes.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from moco_tf import building as assembly
from moco_tf import pretraining as train
from moco_tf.config import make_config
from moco_tf.methods.loss import unit_norm
from moco_tf.methods.shuffle import random_permutation
from moco_tf.recipes import RECIPES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "results"))
from mistakes import MISTAKES

BATCH, GROUP, SIDE = 32, 8, 16


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (BATCH, 4, 4, 3)), np.ones((1, 4, 4, 1)))
    np.savez(tmp_path / "images.npz", images=smooth.astype(np.uint8))
    changes = {"data": str(tmp_path / "images.npz"), "image_size": SIDE, "width": 4, "dim": 16}
    changes |= {"batch_size": BATCH, "group_size": GROUP, "queue_size": 2 * BATCH}
    return make_config(RECIPES["shapes"].config, changes)


def check_draws(config, tmp_path):
    """Equal images become different views, nearly all of them."""
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(tmp_path / "equal.npz", images=np.broadcast_to(picture, (BATCH, SIDE, SIDE, 3)))
    config = make_config(config, {"data": str(tmp_path / "equal.npz")})
    images, _ = assembly.build_images(config)
    finish = assembly.build_finish(config, images, tf.distribute.get_strategy())
    for view in next(assembly.build_batches(config, images, 0)):
        assert len(np.unique(finish(view).numpy().reshape(BATCH, -1), axis=0)) > 0.9 * BATCH


def check_keys(config, tmp_path):
    """The first step enqueues keys normalised in groups of the shuffled batch, and no others."""
    del tmp_path
    images, _ = assembly.build_images(config)
    method = train.build_method(config, assembly.build_strategy(config), images)
    views = next(assembly.build_batches(config, images, 0))
    order = random_permutation(config.seed, 0, 1, BATCH)[0].numpy()
    groups = order.reshape(-1, GROUP)
    plain = np.arange(BATCH).reshape(-1, GROUP)
    assert {frozenset(g) for g in groups.tolist()} != {frozenset(g) for g in plain.tolist()}
    pixels = method.envelope.preprocess(views[1])
    expected = np.empty((BATCH, config.dim), np.float32)
    weights, statistics = (
        [v.value + 0 for v in variables]
        for variables in (
            method.query.model.trainable_variables,
            method.key.model.non_trainable_variables,
        )
    )
    step = assembly.build_step(config, method)
    for rows in groups:  # by themselves: each is a group, whatever it is called together with
        keys, _ = method.query.model.stateless_call(
            weights, statistics, tf.gather(pixels, rows), training=True
        )
        expected[rows] = unit_norm(keys)
    step(*views, 0, 0.1)
    np.testing.assert_allclose(method.queue[:BATCH], expected, atol=1e-4)
    moved = method.key.model.get_layer("bn1").moving_mean
    assert np.abs(moved).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_draws, check_keys])
@pytest.mark.usefixtures("shallow")
def test_a_run_makes_none_of_the_known_mistakes(check, config, tmp_path):
    check(config, tmp_path)


@pytest.mark.parametrize(
    ("check", "mistake"),
    [
        (check_draws, "batch_draws"),
        pytest.param(check_keys, "no_shuffle", marks=pytest.mark.slow),
        pytest.param(check_keys, "key_inference", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("shallow")
def test_the_check_sees_the_mistake(check, mistake, config, tmp_path):
    with MISTAKES[mistake](), pytest.raises(AssertionError):
        check(config, tmp_path)
