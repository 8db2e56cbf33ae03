"""The split of a kNN evaluation: disjoint, seeded, a tenth of each class where there is no test."""

from types import SimpleNamespace

import numpy as np
import pytest

from moco_tf.evaluate.split import monitor_split


def labelled(labels):
    count = len(labels)
    return SimpleNamespace(
        labels=np.asarray(labels), count=count, class_names=(), unreadable=None, max_bad=None
    )


def test_split_of_train_and_test():
    train, test = labelled([0, 1, 2] * 20), labelled([0, 1] * 10)
    split = monitor_split(train, test, max_bank=30, max_queries=7, seed=1)
    assert split.bank is train and split.queries is test and split.classes == 3
    assert len(split.bank_indices) == 30 and len(split.query_indices) == 7
    assert (np.diff(split.bank_indices) > 0).all() and (np.diff(split.query_indices) > 0).all()
    again = monitor_split(train, test, max_bank=30, max_queries=7, seed=1)
    np.testing.assert_array_equal(split.bank_indices, again.bank_indices)
    other = monitor_split(train, test, max_bank=30, max_queries=7, seed=2)
    assert (split.bank_indices != other.bank_indices).any()
    whole = monitor_split(train, test)
    np.testing.assert_array_equal(whole.bank_indices, np.arange(60))
    np.testing.assert_array_equal(whole.query_labels, test.labels)


@pytest.mark.parametrize("test", [None, SimpleNamespace(labels=None, count=5, class_names=())])
def test_without_test_labels_a_tenth_of_each_class_is_held_out(test):
    train = labelled([0] * 40 + [1] * 25 + [2] * 3 + [3])
    split = monitor_split(train, test, seed=3)
    assert split.queries is train
    np.testing.assert_array_equal(np.bincount(split.query_labels, minlength=4), [4, 2, 1, 0])
    np.testing.assert_array_equal(
        np.union1d(split.bank_indices, split.query_indices), np.arange(train.count)
    )
    assert not np.intersect1d(split.bank_indices, split.query_indices).size


def test_images_without_a_label_are_neither_bank_nor_queries():
    train, test = labelled([0, -1, 1, -1, 0, 1]), labelled([1, -1, 0])
    split = monitor_split(train, test)
    assert split.bank_indices.tolist() == [0, 2, 4, 5] and split.query_indices.tolist() == [0, 2]
    assert split.classes == 2
    held_out = monitor_split(train, None)
    assert len(held_out.query_indices) == 2  # one of each class, none of those without
    everything = np.union1d(held_out.bank_indices, held_out.query_indices)
    assert everything.tolist() == [0, 2, 4, 5]


def test_of_an_unreadable_image_the_label_is_that_of_the_one_in_its_place():
    train, test = labelled([0, 1, -1, 3, 2]), labelled([5, 4])
    split = monitor_split(train, test)
    train.unreadable, test.unreadable = {1: "cut off", 4: "empty"}, {1: "gone"}
    assert split.bank_labels.tolist() == [0, 3, 3, 0]  # after the last comes the first
    assert split.query_labels.tolist() == [5, 5]


def test_no_split_without_labels_or_pairs():
    assert monitor_split(SimpleNamespace(labels=None, count=9, class_names=()), None) is None
    assert monitor_split(labelled([0, 1, 2]), None) is None
