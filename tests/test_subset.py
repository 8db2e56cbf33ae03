"""A share of the labels: balanced over classes, seeded, growing with the fraction."""

import numpy as np
import pytest

from moco_tf.evaluate.subset import balanced_subset


def counts_of(labels, fraction, seed=0):
    chosen = balanced_subset(labels, fraction, seed)
    assert (np.diff(chosen) > 0).all()
    return np.bincount(labels[chosen], minlength=labels.max() + 1).tolist()


def shuffled(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize(
    ("counts", "fraction", "wanted"),
    [
        ((50, 50, 50, 50), 0.1, [5, 5, 5, 5]),
        ((50, 50, 50, 50), 1.0, [50, 50, 50, 50]),
        ((90, 10), 0.1, [5, 5]),  # the same number of each class, not the same share
        ((90, 2), 0.1, [7, 2]),  # a small class gives all it has, the other makes up for it
        ((97, 2, 1), 0.5, [47, 2, 1]),
        ((50, 50, 50), 0.001, [1, 1, 1]),  # never none
        ((13, 7, 29), 1.0, [13, 7, 29]),
    ],
)
def test_as_many_of_each_class_as_asked_for(counts, fraction, wanted):
    assert counts_of(shuffled(*counts), fraction) == wanted


def test_what_does_not_come_out_even_is_spread_over_some_classes():
    labels = shuffled(*[100] * 8)
    found = counts_of(labels, 0.125 / 8 * 1.25)  # 15.6 images for 8 classes
    assert sum(found) == 16 and found == [2] * 8
    found = counts_of(labels, 20 / 800)
    assert sum(found) == 20 and sorted(found) == [2] * 4 + [3] * 4
    assert counts_of(labels, 20 / 800, seed=1) != found


def test_the_choice_is_a_function_of_the_seed_and_grows_with_the_fraction():
    labels = shuffled(40, 60, 50)
    small, large = (balanced_subset(labels, share, 7) for share in (0.1, 0.3))
    np.testing.assert_array_equal(small, balanced_subset(labels, 0.1, 7))
    assert set(small) < set(large)
    assert set(small) != set(balanced_subset(labels, 0.1, 8))
