"""The loop of examples/: it runs, it is what the official code recorded, and mistakes show."""

import re
import runpy

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import moco_tf.verify.run as run_module
from moco_tf import functional
from moco_tf.verify import verify_files
from moco_tf.verify.replay import Replay, Step

PATH = ROOT / "examples" / "custom_loop.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(PATH))


@pytest.fixture
def in_place_of_ours(example, monkeypatch):
    """Has `verify` step the example's loop, on the networks and variables of a trace."""

    class ExampleReplay(Replay):
        def __init__(self, *, method, sgd, **settings):
            super().__init__(method=method, sgd=sgd, **settings)
            assert sgd == example["SGD"]
            ours = self.method
            self._query = ours.query.model
            self._step = example["make_step"](
                self._query,
                ours.key.model,
                ours.queue,
                ours.pointer,
                ours.envelope.optimizer.slots["momentum"],
                momentum=method["key_momentum"],
                temperature=method["temperature"],
            )

        def step(self, view1, view2, permutations, learning_rate):
            before, images = self.state(), self._images(view1)
            weights, statistics = (
                [v.value for v in variables]
                for variables in (
                    self._query.trainable_variables,
                    self._query.non_trainable_variables,
                )
            )
            queries, _ = self._query.stateless_call(weights, statistics, images, training=True)
            loss, logits = self._step(
                images,
                self._images(view2),
                tf.constant(permutations[0], tf.int32),
                tf.constant(learning_rate, self.dtype),
            )
            after, count = self.state(), len(images)
            columns = (int(before["queue_ptr"]) + np.arange(count)) % after["queue"].shape[1]
            scalars = {f"top{k}": float(functional.top_k_accuracy(logits, k)) for k in (1, 5)}
            details = {
                "queries": functional.unit_norm(queries).numpy()[None],
                "keys": after["queue"][:, columns].T[None],
                "logits": logits.numpy()[None],
                "losses": functional.info_nce(logits).numpy()[None],
            }
            return Step(before, after, scalars | {"loss": float(loss)}, details)

    monkeypatch.setattr(run_module, "Replay", ExampleReplay)


@pytest.mark.slow
def test_it_runs_and_prints_the_loss(example, capsys):
    example["main"](steps=10, batch_size=16, queue_size=16)
    (line,) = capsys.readouterr().out.splitlines()
    step, loss, top1 = re.fullmatch(
        r"step (\d+)  loss ([\d.]+)  top1 ([\d.]+)%  rate 0.00\d\d", line
    ).groups()
    assert step == "10"
    assert 0 < float(loss) < 10  # log(17) = 2.8 where nothing is learnt
    assert float(top1) in {100 * hits / 16 for hits in range(17)}


def test_it_is_under_80_lines():
    assert len(PATH.read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("moco_v1_w2", marks=pytest.mark.long), "moco_v2_w4"])
def test_the_loop_is_what_the_official_code_recorded(name, golden_folder, in_place_of_ours):
    (file,) = verify_files([str(golden_folder / f"{name}.npz")])["files"]
    assert file["first_failure"] is None
    assert file["steps"] == 6
    assert len(file["quantities"]) > 15


@pytest.mark.golden
@pytest.mark.slow
def test_the_same_loop_without_shuffling_is_not(golden_folder, in_place_of_ours, monkeypatch):
    monkeypatch.setattr(functional, "shuffle", lambda images, order: images)
    monkeypatch.setattr(functional, "unshuffle", lambda keys, order: keys)
    (file,) = verify_files([str(golden_folder / "moco_v1_w2.npz")])["files"]
    assert file["first_failure"]["step"] == 1
    assert file["first_failure"]["quantity"] == "keys"
