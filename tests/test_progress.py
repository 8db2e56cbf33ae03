"""What a checkpoint says of a run is gone on from only if this version could have written it."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.evaluate import progress as of_classifiers
from moco_tf.evaluate.progress import check_heads
from moco_tf.pretraining.opening import _restore
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.training.progress import Progress, progress_of
from moco_tf.training.reporting import NullReporter

KINDS = [Progress, of_classifiers.Progress]
DIGEST = {"metrics.jsonl": {"bytes": 3, "sha256": "ab"}}


def read(kind, extra, step=7):
    return progress_of(kind, extra, step=step, folder=Path("run/checkpoints"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_comes_back(kind):
    whole = kind(step=7, seconds=3, written=DIGEST)
    assert read(kind, asdict(whole)) == whole
    assert read(kind, {"step": 7}) == kind(step=7)  # of a version that kept less
    sums = {"loss": [1.5, 2], "images": 8.0}
    full = of_classifiers.Progress(
        7, seconds=0.5, provenance={"classes": 2}, sums=sums, loss=[1.0, float("nan")]
    )
    assert read(of_classifiers.Progress, vars(full)).sums == sums


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": 1}, "its field 'colour' is not known"),
        ({"seconds": "3"}, "its field 'seconds' is '3'"),
        ({"seconds": True}, "its field 'seconds' is True"),
        ({"step": 8}, "its field 'step' is 8"),
        ({"step": 7.0}, "its field 'step' is 7.0"),
        ({"step": "7"}, "its field 'step' is '7'"),
        ({"step": None}, "its field 'step' is None"),
        ({"written": {"metrics.jsonl": 3}}, "its field 'written' is {'metrics.jsonl': 3}"),
        ({"loss": {}}, "its field 'loss' is {}"),
    ],
)
def test_what_was_not_is_one_line_that_names_the_field(kind, changes, said):
    with pytest.raises(InputError) as caught:
        read(kind, asdict(kind(step=7)) | changes)
    message = str(caught.value)
    assert message.startswith("the checkpoint of step 7 in run/checkpoints is not one that")
    assert said in message and "newer version?" in message
    assert message.isprintable()


def test_every_field_is_looked_at():
    for kind in KINDS:
        for field in fields(kind):
            with pytest.raises(InputError, match=f"its field '{field.name}' is <object"):
                read(kind, {"step": 7, field.name: object()})


class Untouched:
    def state(self):
        raise AssertionError("looked at too late")


@pytest.mark.parametrize("extra", [{}, {"step": 2, "new": 1}, {"step": 2, "written": 3}])
def test_neither_a_run_nor_a_probe_goes_on_from_what_it_cannot_read(tmp_path, extra):
    folder = run_folder.checkpoint_folder(tmp_path)
    checkpoint.save(folder, {"a": np.zeros(2)}, step=2, extra=extra)
    for restore in (
        lambda: _restore(tmp_path, Untouched(), NullReporter()),
        lambda: of_classifiers.restore(tmp_path, Untouched(), {"classes": 2}, 1, pytest.fail),
    ):
        with pytest.raises(InputError, match=r"checkpoint of step 2 in .*checkpoints is not one"):
            restore()


SUMS = {"loss": [1.0, 2.0], "top1": [1.0, 0.0], "top5": [2.0, 2.0], "images": 2.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top1_best", [50.0]),
        ("loss", []),
        ("sums", {}),
        ("sums", SUMS | {"top1": [1.0]}),
        ("sums", SUMS | {"top1": 1.0}),
        ("sums", SUMS | {"images": [2.0]}),
        ("sums", SUMS | {"more": [1.0, 1.0]}),
    ],
)
def test_results_of_other_classifiers_are_refused_by_name(name, value):
    whole = {"step": 3, "loss": [1.0, 2.0], "top1_best": [50.0, 40.0], "sums": SUMS}
    check_heads(whole, 2, Path("probe"))
    with pytest.raises(InputError, match=rf"in probe does not fit 2 classifier.*'{name}' is "):
        check_heads(whole | {name: value}, 2, Path("probe"))
