"""Sheets of pictures for TensorBoard, and that they change nothing in a run."""

import numpy as np

from moco_tf.report.album import GAP, SIDE, sheet, with_pictures


class Album:
    """In place of the real one."""

    def views(self):
        return "views"

    def neighbours(self):
        return "neighbours"


def test_a_sheet_has_each_picture_in_its_place():
    rows = [
        [np.full((4, 4, 3), 10 * n, np.uint8) for n in range(3)],
        [np.zeros((8, 4, 3), np.uint8)],
    ]
    pixels = sheet(rows)
    assert pixels.shape == (2 * SIDE, 3 * SIDE + GAP, 3)
    for place in range(3):
        left = place * SIDE + (GAP if place else 0)
        assert (pixels[:SIDE, left : left + SIDE] == 10 * place).all()
    assert (pixels[:SIDE, SIDE : SIDE + GAP] == 255).all()
    assert (pixels[SIDE:, :SIDE] == 0).all() and (pixels[SIDE:, SIDE:] == 255).all()


def test_views_are_shown_once_and_neighbours_at_each_evaluation():
    shown = []
    monitor = with_pictures(lambda: {"knn_top1": 5.0}, Album(), True, shown.append, print)
    assert [monitor(), monitor()] == [{"knn_top1": 5.0}] * 2
    both = {"neighbours": "neighbours", "views": "views"}
    assert shown == [both, {"neighbours": "neighbours"}]


def test_a_run_that_goes_on_shows_no_views():
    shown = []
    with_pictures(dict, Album(), False, shown.append, print)()
    assert shown == [{"neighbours": "neighbours"}]


def test_pictures_that_fail_are_told_of_once():
    said = []

    def fails(sheets):
        if sheets:
            raise ValueError("no\nidea")

    monitor = with_pictures(lambda: {"knn_top1": 5.0}, Album(), True, fails, said.append)
    assert [monitor(), monitor()] == [{"knn_top1": 5.0}] * 2
    assert said == ["TensorBoard gets no pictures (ValueError: no idea)"]
