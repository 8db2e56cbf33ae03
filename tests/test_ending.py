"""What a run says last: it lies where it says, and the next commands can be typed."""

import shlex
from dataclasses import replace

import numpy as np
import pytest

from moco_tf.commands.cli import _parser
from moco_tf.data.sources import from_arrays
from moco_tf.evaluate.ending import ending_lines, next_commands

PIXELS = np.zeros((2, 8, 8, 3), np.uint8)
BARE = from_arrays("bare", PIXELS)
NAMED = from_arrays("named", PIXELS, [0, 1])
OTHER = replace(BARE, why_unlabelled="other classes")
SUMMARY = {"step": 20, "seconds": 63.4, "effective_rank": None}
KNN = {"knn_top1": 61.25, "knn_top1_untrained": 29.125, "knn_top1_pixels": 40.5}


def test_the_end_of_a_labelled_run():
    assert ending_lines(SUMMARY | KNN, "runs/shapes", NAMED, NAMED) == [
        "done: step 20, 63 s",
        "kNN top-1: trained 61.2%   untrained 29.1%   raw pixels 40.5%",
        "all of it is in runs/shapes: checkpoints/, metrics.jsonl, summary.json, and curves in "
        "tensorboard/",
        "next:",
        "  moco-tf knn runs/shapes --features pooled",
        "  moco-tf probe runs/shapes --quick",
        "  moco-tf embed runs/shapes --out features.npz",
    ]


@pytest.mark.parametrize(
    ("train", "test", "first_words"),
    [
        (BARE, None, ["tensorboard --logdir", "moco-tf embed", "moco-tf export"]),
        (BARE, BARE, ["tensorboard --logdir", "moco-tf embed", "moco-tf export"]),
        (NAMED, None, ["moco-tf knn", "moco-tf export", "moco-tf embed"]),  # no probe without test
        (NAMED, BARE, ["moco-tf knn", "moco-tf export", "moco-tf embed"]),
        (NAMED, OTHER, ["tensorboard --logdir", "moco-tf embed", "moco-tf export"]),  # knn refuses
    ],
)
def test_only_commands_that_the_images_allow_are_advised(train, test, first_words):
    lines = ending_lines(SUMMARY | dict.fromkeys(KNN), "runs/x", train, test)
    assert not any("kNN" in line for line in lines)
    assert [" ".join(line.split()[:2]) for line in lines[-3:]] == first_words


@pytest.mark.parametrize("run_dir", ["runs/a b's $HOME", "-run", "/tmp/x"])
@pytest.mark.parametrize("labelled", [(True, True), (True, False), (False, False)])
def test_the_commands_can_be_typed_as_they_stand(run_dir, labelled):
    for line in next_commands(run_dir, *labelled):
        program, *words = shlex.split(line)
        if program == "tensorboard":
            assert words[1].removeprefix("./") == f"{run_dir}/tensorboard"
        else:
            assert program == "moco-tf"
            run = f"./{run_dir}" if run_dir.startswith("-") else run_dir
            assert run in vars(_parser().parse_args(words)).values()


def test_what_the_features_tell_without_labels_stands_beside_the_untrained_ones():
    values = {"view_retrieval": 83.1, "alignment": 0.4321, "uniformity": -2.5, "effective_rank": 25}
    untrained = {f"{name}_untrained": value / 10 for name, value in values.items()}
    summary = SUMMARY | dict.fromkeys(KNN) | values | untrained
    assert ending_lines(summary, "run", BARE, None)[1:6] == [
        "without labels, of two views of 2 pictures that it was trained on:",
        "                             untrained    trained   better",
        "  two views find each other       8.3%      83.1%   higher (50.0% by chance)",
        "  alignment                      0.043      0.432   lower, beside a low uniformity",
        "  uniformity                    -0.250     -2.500   lower (0 to -4)",
    ]
    of_old = summary | dict.fromkeys(untrained)  # whose first checkpoints have none
    lines = ending_lines(of_old, "run", BARE, BARE)
    assert lines[1] == "without labels, of two views of 2 pictures of the test images:"
    assert lines[6] == "  effective rank                     -       25.0   higher"


def test_a_run_elsewhere_is_to_be_copied_first():
    lines = ending_lines(SUMMARY | KNN, "gs://bucket/run", NAMED, NAMED)
    assert "all of it is in gs://bucket/run: " in lines[2]
    assert lines[3:] == ["copy it to this machine for the other commands"]
    local = ending_lines(SUMMARY | KNN, "file:///tmp/run", NAMED, NAMED)
    assert local[-1] == "  moco-tf embed /tmp/run --out features.npz"
