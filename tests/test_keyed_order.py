"""The order without memory: every image once, at places that nothing tells beforehand."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from support.runs import config

from moco_tf.data.keyed_order import keyed_order
from moco_tf.data.order import StepOrder
from moco_tf.files.digests import read_json
from moco_tf.pretraining import opening, pretrain

PINNED = [1, 4, 9, 5, 3, 0, 8, 6, 2, 7]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 1000, 1024, 2**20 + 7])
def test_every_image_comes_once_an_epoch(count):
    order = keyed_order(3, 5, count, np.arange(count))
    assert np.array_equal(np.sort(order), np.arange(count))
    some = np.arange(count)[:: max(1, count // 7)][::-1]
    assert np.array_equal(keyed_order(3, 5, count, some), order[some])


def test_the_order_is_pinned():
    assert keyed_order(0, 0, 10, np.arange(10)).tolist() == PINNED
    orders = {tuple(keyed_order(*key, 10, np.arange(10))) for key in [(0, 0), (0, 1), (1, 0)]}
    assert len(orders) == 3


@pytest.mark.parametrize("count", [3, 10, 37, 64])
def test_each_image_is_at_each_place_equally_often(count):
    """Chi-square of (place, image) over many epochs; 5 standard deviations are allowed."""
    epochs = 4000
    orders = np.stack([keyed_order(7, epoch, count, np.arange(count)) for epoch in range(epochs)])
    table = np.zeros((count, count))
    np.add.at(table, (np.broadcast_to(np.arange(count), orders.shape), orders), 1)
    expected = epochs / count
    freedom = (count - 1) ** 2
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_neighbours_in_the_listing_are_no_neighbours_in_the_order():
    """Differences of places of neighbours are spread as those of a random permutation."""
    count = 100_000
    order = keyed_order(1, 0, count, np.arange(count))
    steps = np.abs(np.diff(np.argsort(order))) / count  # density 2 (1 - x)
    found, _ = np.histogram(steps, 10, (0, 1))
    edges = np.linspace(0, 1, 11)
    share = np.diff(2 * edges - edges**2)
    assert ((found - count * share) ** 2 / (count * share)).sum() < 27.9  # 0.1 % of 9 freedoms


def test_a_thousand_batches_of_a_billion_images_take_no_time_and_no_memory():
    order = StepOrder(0, 10**9, 256, 10**9 // 256, keyed=True)
    tracemalloc.start()
    start = time.process_time()
    seen = np.concatenate([order.of_step(step)[0] for step in range(2_000_000, 2_001_000)])
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(seen)) == 256_000 and seen.max() > 9.9e8
    assert seconds < 2 and peak < 50e6  # tracing memory slows it down


@pytest.mark.slow
def test_a_new_run_of_many_images_records_it_and_older_runs_keep_theirs(
    quick, tmp_path, monkeypatch
):
    def run(name, **changes):
        summary = pretrain(config("shapes", tmp_path / name, max_steps=20, **changes))
        return summary["state_sha256"], read_json(tmp_path / name / "config.json")["order"]

    sorted_state, order = run("sorted")
    assert order == "sorted"
    monkeypatch.setattr(opening, "MOST_SORTED", 100)
    keyed_state, order = run("keyed")
    assert order == "keyed" and keyed_state != sorted_state
    file = tmp_path / "sorted/config.json"
    fields = json.loads(file.read_text())
    del fields["order"], fields["sha256"]  # as an older version wrote it
    file.write_text(json.dumps(fields))
    monkeypatch.setattr(opening, "MOST_SORTED", 2**22)
    longer = [pretrain(config("shapes", tmp_path / n, max_steps=25)) for n in ("sorted", "keyed")]
    whole = pretrain(config("shapes", tmp_path / "whole", max_steps=25))
    assert longer[0]["state_sha256"] == whole["state_sha256"] != longer[1]["state_sha256"]
    keyed = pretrain(config("shapes", tmp_path / "whole keyed", max_steps=25, order="keyed"))
    assert longer[1]["state_sha256"] == keyed["state_sha256"]
