"""Exact search among features, beside a naive one."""

import numpy as np
import pytest

from moco_tf.evaluate import nearest as module
from moco_tf.evaluate.approximate import approximate_pairs
from moco_tf.evaluate.nearest import nearest, similar_pairs


def unit_rows(count, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=[7, 1000])
def blocks(request, monkeypatch):
    """Many small blocks, or one."""
    monkeypatch.setattr(module, "_AT_ONCE", request.param)
    monkeypatch.setattr(module, "_BLOCK", request.param)


@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_the_nearest_rows_are_those_of_a_full_sort(blocks, k):
    bank, queries = unit_rows(40, 6, 0), unit_rows(5, 6, 1)
    rows, values = nearest(bank, queries, k)
    similarity = queries.astype(np.float64) @ bank.astype(np.float64).T
    wanted = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    assert rows.tolist() == wanted.tolist()
    np.testing.assert_allclose(values, np.take_along_axis(similarity, wanted, 1), atol=1e-6)


def test_of_equal_rows_the_first_are_taken(blocks):
    bank = np.eye(4, dtype=np.float32)[[3, 0, 1, 0, 2, 0, 0, 1]]
    rows, values = nearest(bank, np.eye(4, dtype=np.float32)[:2], 3)
    assert rows.tolist() == [[1, 3, 5], [2, 7, 0]]
    assert values.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_pairs_are_all_that_are_alike_the_most_similar_first(blocks):
    bank = unit_rows(40, 4, 2)
    bank[31] = bank[5]
    found, values, count = similar_pairs(bank, 0.9, most=1000)
    similarity = bank.astype(np.float64) @ bank.astype(np.float64).T
    wanted = [(i, j) for i in range(40) for j in range(i + 1, 40) if similarity[i, j] >= 0.9]
    assert sorted(map(tuple, found.tolist())) == wanted
    assert count == len(wanted) > 5
    assert found[0].tolist() == [5, 31]
    assert np.all(np.diff(values) <= 0)
    assert values[0] <= 1


def test_no_more_pairs_are_returned_than_asked_for(blocks):
    bank = unit_rows(60, 3, 3)
    everything, values, count = similar_pairs(bank, 0.5, most=10_000)
    some, some_values, some_count = similar_pairs(bank, 0.5, most=9)
    assert some_count == count == len(everything) > 9
    assert some.tolist() == everything[:9].tolist()
    assert some_values.tolist() == values[:9].tolist()


def test_equal_rows_are_a_pair_at_a_similarity_of_one():
    rows = np.repeat(unit_rows(1, 257, 4), 3, axis=0)
    assert similar_pairs(rows, 1.0, most=10)[2] == 3


def test_an_index_finds_nearly_all_pairs_and_their_exact_similarity():
    pytest.importorskip("voyager", reason="voyager is not installed")
    random = np.random.default_rng(4)
    rows = np.repeat(unit_rows(150, 32, 5), 20, axis=0) + 0.06 * random.normal(size=(3000, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    wanted, similarities, count = similar_pairs(rows, 0.9, most=100_000)
    found, values, found_count = approximate_pairs(rows, 0.9, most=100_000)
    assert count > 10_000 and found_count == len(found)
    exact = dict(zip(map(tuple, wanted.tolist()), similarities.tolist(), strict=True))
    pairs = list(map(tuple, found.tolist()))
    assert set(pairs) <= set(exact) and len(pairs) > 0.95 * count
    np.testing.assert_allclose(values, [exact[pair] for pair in pairs], atol=1e-6)
    assert np.all(np.diff(values) <= 0)
    few, _, few_count = approximate_pairs(rows, 0.9, most=9)
    assert len(few) == 9 and few_count > 0.95 * count
