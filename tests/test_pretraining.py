"""The whole loop: interrupted in any way, a run ends in the same arrays, bit for bit."""

import io
import math
import random
import re
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from support.runs import TINY, config, metrics, rows, start, wait_for_step

import moco_tf.pretraining
from moco_tf.benchmark.memory import resident_bytes
from moco_tf.building import build_method
from moco_tf.config import make_config
from moco_tf.data.order import StepOrder
from moco_tf.data.readable import ReadableBatches
from moco_tf.errors import InputError
from moco_tf.evaluate.label_free import SIGNALS
from moco_tf.files.digests import read_json
from moco_tf.pretraining import MONITORED, pretrain
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs.check import check_run
from moco_tf.runs.config_file import read_config
from moco_tf.runs.snapshot import load_snapshot
from moco_tf.training.reporting import Reporter

pytestmark = pytest.mark.usefixtures("shallow", "compiled_once")


@pytest.fixture(scope="module")
def whole_run(shallow, compiled_once, data, tmp_path_factory):
    """The folder of a run that nothing interrupted, for reading only; what it said lies beside."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), soft_wrap=True)
    summary = pretrain(config(data, run_dir), reporter=reporter)
    assert read_json(run_dir / "summary.json") == summary
    (run_dir.parent / "said.txt").write_text(reporter.console.file.getvalue())
    return run_dir


@pytest.fixture
def uninterrupted(whole_run):
    return read_json(whole_run / "summary.json")


def test_summary_and_metrics_hold_what_scripts_read(whole_run, uninterrupted):
    summary = uninterrupted
    assert summary["step"] == 9
    found = check_run(whole_run)
    assert found["whole"] and all(file["carried"] for file in found["files"])
    assert found["state_sha256"] == summary["state_sha256"] and found["unknown"] == []
    assert {"loss", "knn_top1", "knn_top1_untrained", "knn_top1_pixels", "state_sha256"} <= set(
        summary
    )
    assert summary["encoder"] == "resnet18"
    points = metrics(whole_run)
    assert [row["step"] for row in points] == list(range(1, 10))
    names = {"epoch", "loss", "top1", "top5", "lr", "images_per_second", "data_wait"}
    assert names <= set(points[0])


def test_what_goes_on_is_said_as_it_begins(whole_run, data):
    said = (whole_run.parent / "said.txt").read_text()
    stages = re.findall(r"^ *(\d+\.\d) s  (.*)$", said, re.MULTILINE)
    assert [what for _, what in stages] == [
        f"reading the images of {data}",
        "building the encoders",
        "compiling the first step",
        "evaluating the untrained encoder",
        "kNN of the raw pixels",
    ]
    seconds = [float(after) for after, _ in stages]
    assert seconds == sorted(seconds)
    images = re.search(r"resnet18 on .*, 48 images;", said)
    assert said.index("reading") < images.start() < said.index("building")
    queue = said.index("suggestion: --queue-size 16 (now 50): the queue holds the keys of 1 epochs")
    assert images.start() < queue < said.index("building")
    told = ["compiling", "first step after", "evaluating", "step 0, untrained", "step 1/9"]
    places = [said.index(words) for words in told]
    assert places == sorted(places)
    assert said.index("done: step 9") < said.index(f"all of it is in {whole_run}")


@pytest.mark.slow
def test_each_evaluation_is_a_row_beside_the_baselines(data, tmp_path):
    """Of a run in pieces, after each of its three epochs of three steps."""
    for stop in (4, None):
        summary = pretrain(config(data, tmp_path / "run", knn_every=1, max_steps=stop))
    found = [row for row in rows(tmp_path / "run") if "knn_top1" in row]
    assert [row["step"] for row in found] == [0, 3, 4, 6, 9]
    assert found[0]["knn_top1"] == summary["knn_top1_untrained"]
    assert found[0]["knn_top1_pixels"] == summary["knn_top1_pixels"]
    assert all(row.keys() == {"step", *MONITORED} for row in found[1:])
    for name in MONITORED:
        assert found[0][name] == summary[f"{name}_untrained"]
        assert found[-1][name] == summary[name]


def test_a_run_without_labels_ends_with_more_than_a_loss(data, tmp_path, uninterrupted):
    with np.load(data) as arrays:
        np.savez(tmp_path / "bare.npz", images=arrays["images"])
    summary = pretrain(config(str(tmp_path / "bare.npz"), tmp_path / "run", knn_every=2))
    found = [row for row in rows(tmp_path / "run") if "loss" not in row]
    assert [row["step"] for row in found] == [0, 6, 9]
    assert all(row.keys() == {"step", *SIGNALS} for row in found)
    assert found[-1]["effective_rank"] == summary["effective_rank"]
    assert found[0]["effective_rank"] == summary["effective_rank_untrained"]
    assert summary["knn_top1"] is None and 1 < summary["effective_rank"] < 8
    # Looking more often has changed nothing, neither in the training nor in what is seen.
    same = ("state_sha256", *SIGNALS)
    assert [summary[name] for name in same] == [uninterrupted[name] for name in same]


@pytest.mark.parametrize(
    "stops",
    [pytest.param((4,), marks=pytest.mark.long), pytest.param((1, 2, 7), marks=pytest.mark.slow)],
)
def test_a_run_in_pieces_ends_in_the_same_arrays(data, tmp_path, uninterrupted, stops):
    for stop in stops:
        pretrain(config(data, tmp_path / "run", max_steps=stop))
    summary = pretrain(config(data, tmp_path / "run"))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGTERM, 143)],
)
def test_signals_save_and_exit_with_their_own_code(data, tmp_path, uninterrupted, number, code):
    run_dir = tmp_path / "run"
    process = start(data, run_dir)
    wait_for_step(run_dir, process, 2)
    process.send_signal(number)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == code, output
    assert "Traceback" not in output
    stopped_at = checkpoint.load_latest(run_dir / "checkpoints", warn=print)[1]
    assert 2 <= stopped_at < 9
    summary = pretrain(config(data, run_dir))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.slow
def test_kill_nine_at_three_random_moments_and_resume(data, tmp_path):
    """Checkpoints are seven steps apart, inside epochs too, so steps are lost and done again."""
    changes = {"epochs": 20, "checkpoint_every": 7, "log_every": 50}
    uninterrupted = pretrain(config(data, tmp_path / "whole", **changes))
    run_dir, draw = tmp_path / "run", random.Random()
    for step in sorted(draw.sample(range(1, 40), 3)):
        process = start(data, run_dir, **changes)
        wait_for_step(run_dir, process, step)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, step
        found = check_run(run_dir)
        assert found["whole"], found["damaged"]
    summary = pretrain(config(data, run_dir, **changes))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_to_the_one_before(data, tmp_path, uninterrupted):
    run_dir = tmp_path / "run"
    pretrain(config(data, run_dir, max_steps=5))
    newest = sorted((run_dir / "checkpoints").glob("step-*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    summary = pretrain(config(data, run_dir))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


def test_another_config_for_the_folder_is_refused_by_name(data, tmp_path):
    pretrain(config(data, tmp_path / "run", max_steps=1))
    with pytest.raises(InputError, match="temperature"):
        pretrain(config(data, tmp_path / "run", temperature=0.5))


@pytest.mark.slow
def test_more_epochs_go_on_and_the_folder_tells_the_whole_run(data, tmp_path):
    run = tmp_path / "run"
    pretrain(config(data, run, epochs=2, max_steps=5))
    with pytest.raises(InputError, match=r"would change at step 5 from .*\. Add --extend"):
        pretrain(config(data, run))
    pretrain(config(data, run, max_steps=7), extend=True)
    found = read_config(run)
    assert (found.epochs, found.earlier_schedules) == (3, ((5, 2),))
    summary = pretrain(config(data, run))  # has only to be said once
    assert check_run(run)["whole"] and summary["step"] == 9
    rates = [row["lr"] for row in metrics(run)]
    half = [math.cos(math.pi * epoch / epochs) / 2 for epoch, epochs in ((0, 2), (1, 2), (1, 3))]
    last = math.cos(math.pi * 2 / 3) / 2
    wanted = [0.00375 * (0.5 + cosine) for cosine in [half[0]] * 3 + half[1:2] * 2 + half[2:]]
    assert rates == pytest.approx(wanted + [0.00375 * (0.5 + last)] * 3)
    again = found.model_copy(update={"run_dir": str(tmp_path / "again"), "max_steps": None})
    assert pretrain(again)["state_sha256"] == summary["state_sha256"]


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another_and_then_needs_it_no_more(
    data, tmp_path, whole_run
):
    source = tmp_path / "source"
    shutil.copytree(whole_run, source)
    given = {"init": str(source), "learning_rate": 0.03}
    pretrain(config(data, tmp_path / "run", max_steps=0, **given))
    there, here = (load_snapshot(run, warn=print).state for run in (source, tmp_path / "run"))
    for name in [name for name in there if name.startswith("query_encoder/")]:
        np.testing.assert_array_equal(here[name], there[name])
        np.testing.assert_array_equal(here[name.replace("query", "key")], there[name])
    fresh = build_method(config(data, "x"), tf.distribute.get_strategy()).state()
    for name in [name for name in fresh if "encoder/" not in name]:
        np.testing.assert_array_equal(here[name], fresh[name].numpy(), err_msg=name)
    query = {name: array for name, array in there.items() if name.startswith("query_encoder/")}
    assert read_config(tmp_path / "run").init_sha256 == checkpoint_file.digest(query)
    shutil.rmtree(source)
    assert pretrain(config(data, tmp_path / "run", max_steps=1, **given))["step"] == 1
    with pytest.raises(InputError, match="is not a run folder"):
        pretrain(config(data, tmp_path / "new", max_steps=1, **given))


def test_a_batch_larger_than_the_data_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="batch_size=64"):
        pretrain(config(data, tmp_path / "run", batch_size=64))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_starts_at_the_same_loss(data, tmp_path, whole_run, precision):
    """The first loss differs by rounding alone; the whole run stays finite and resumes."""
    changes = {"precision": precision, "checkpoint_every": 2}
    pretrain(config(data, tmp_path / "run", max_steps=4, **changes))
    mixed = pretrain(config(data, tmp_path / "run", **changes))
    first, exact = (metrics(run_dir)[0] for run_dir in (tmp_path / "run", whole_run))
    assert first["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert first["loss"] != exact["loss"]
    assert np.isfinite(mixed["loss"])
    whole = pretrain(config(data, tmp_path / "whole", **changes))
    assert mixed["state_sha256"] == whole["state_sha256"]


def test_bad_data_leaves_no_run_behind(data, tmp_path):
    with pytest.raises(InputError, match="data"):
        pretrain(config(str(tmp_path / "absent"), tmp_path / "run"))
    assert pretrain(config(data, tmp_path / "run", max_steps=1))["step"] == 1


@pytest.mark.long
def test_an_image_that_breaks_while_training_is_named_and_nothing_is_lost(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(32):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    changes = {"epochs": 40, "data": str(folder), "run_dir": str(tmp_path / "run")}
    changes |= {"checkpoint_every": 1000}
    base = make_config(RECIPES["shapes"].config, TINY | changes)
    original = ReadableBatches.__next__

    def breaks_later(batches):
        if batches.step == 3:
            (folder / "7.png").write_bytes(b"")
        return original(batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReadableBatches, "__next__", breaks_later)
        with pytest.raises(
            InputError, match=r"images/7\.png could not be read.* is saved"
        ) as caught:
            pretrain(base)
    assert "{{" not in str(caught.value)
    saved = checkpoint.load_latest(tmp_path / "run/checkpoints", warn=print)[1]
    assert f"after step {saved}," in str(caught.value) and saved >= 3
    (folder / "7.png").unlink()
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), soft_wrap=True)
    again = base.model_copy(update={"max_steps": saved + 1})
    assert pretrain(again, reporter=reporter)["step"] == saved + 1
    said = reporter.console.file.getvalue()
    assert "the training images are not those of before" in said
    assert "suggestion:" not in said  # its config can be changed no more


@pytest.mark.long
def test_devices_see_the_same_batches(data, tmp_path, whole_run):
    """Same data, shuffle and augmentation; later steps of so small a net amplify rounding."""

    pretrain(config(data, tmp_path / "run", devices=2, max_steps=2))
    two, one = ([row["loss"] for row in metrics(run)[:2]] for run in (tmp_path / "run", whole_run))
    assert two == pytest.approx(one, abs=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_moves_between_8_4_2_and_1_devices(data, tmp_path):
    """Eight BatchNorm groups in doubles: against a run that stays on one device."""
    changes = {"group_size": 2, "precision": "float64"}  # of a batch of 16
    one = pretrain(config(data, tmp_path / "one", devices=1, **changes))
    for devices, until in ((4, 2), (8, 4), (2, 7), (1, 9)):  # eight take a process of their own
        process = start(data, tmp_path / "run", devices=devices, max_steps=until, **changes)
        output = process.communicate(timeout=240)[0].decode()
        assert process.returncode == 0, output
        assert f"on {devices} " in output
        assert checkpoint.newest_step(tmp_path / "run/checkpoints") == until
    arrays, expected = (
        checkpoint.load(tmp_path / run / "checkpoints/step-00000009.safetensors")[0]
        for run in ("run", "one")
    )
    assert arrays.keys() == expected.keys() and len(arrays) > 40
    assert checkpoint_file.digest(expected) == one["state_sha256"]
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0, atol=1e-9, err_msg=name)
    losses = [[row["loss"] for row in metrics(tmp_path / run)] for run in ("run", "one")]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-9)
    assert len(losses[0]) == 9


@pytest.mark.slow
def test_the_last_checkpoint_tells_the_epoch_to_other_commands(data, tmp_path):
    pretrain(config(data, tmp_path / "run", max_steps=7))  # 3 steps an epoch
    snapshot = load_snapshot(tmp_path / "run", warn=print)
    assert (snapshot.step, snapshot.provenance["epoch"]) == (7, 2)


@pytest.mark.long
@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(data, tmp_path, monkeypatch):
    """A step that computes nothing, so that 10,000 take seconds: 0.76 kB a number is 7.6 MB."""
    resident = {}
    scalars = dict.fromkeys(("loss", "top1", "top5", "feature_std"), tf.constant(1.0))
    scalars |= dict.fromkeys(("positive_similarity", "negative_similarity"), tf.constant(0.5))

    nothing = SimpleNamespace(
        train_step=lambda *_: (scalars | {"first_nonfinite": tf.constant(0)}, {})
    )
    real = moco_tf.pretraining.build_step

    def build_step(config, method):
        step = real(config, nothing)

        def watched(view1, view2, number, rate):
            if number % 2000 == 0:
                resident[number] = resident_bytes()
            return step(view1, view2, number, rate)

        return watched

    batch = tf.zeros([16, 16, 16, 3])
    monkeypatch.setattr(moco_tf.pretraining, "build_step", build_step)
    endless = tf.data.Dataset.from_tensors((batch, batch)).repeat()
    order = StepOrder(0, 16, 16, 12_001)
    monkeypatch.setattr(
        moco_tf.pretraining,
        "build_batches",
        lambda config, images, *_: ReadableBatches(images, order, endless),
    )
    monkeypatch.setattr(moco_tf.pretraining, "steps_per_epoch", lambda *_: 12_001)
    changes = {"epochs": 1, "schedule_unit": "step", "log_every": 500, "checkpoint_every": 10**6}
    pretrain(config(data, tmp_path / "run", **changes))
    assert resident[12_000] - resident[2000] < 2e6, resident
