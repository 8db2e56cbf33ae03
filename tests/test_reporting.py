"""What a run writes, and what it says when something is off."""

import ctypes
import io
import json
import math
import os
import re
import sys
import time

import pytest
import tensorflow as tf
from rich.console import Console
from support.runs import rows
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from moco_tf.benchmark.memory import resident_bytes
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.training.clock import StepClock
from moco_tf.training.console import sparkline
from moco_tf.training.health import dips, health_messages, health_settings
from moco_tf.training.memory import give_back_freed_memory
from moco_tf.training.reporting import Reporter, rows_until

HEALTHY = {
    "epoch": 0,
    "lr": 0.03,
    "loss": 5.0,
    "top1": 40.0,
    "top5": 60.0,
    "feature_std": 0.08,
    "positive_similarity": 0.8,
    "negative_similarity": 0.1,
    "images_per_second": 100.0,
    "data_wait": 0.1,
}
SIZES = {"dim": 128, "queue_size": 1024, "keys_per_step": 64, "directions": 1}


def test_a_symmetric_loss_of_guessing_is_twice_as_large():
    values = HEALTHY | {"loss": 2 * math.log(1025)}
    (message,) = health_messages(values, step=500, **SIZES | {"directions": 2})
    assert "guessing" in message
    assert health_messages(values, step=210, **SIZES | {"directions": 2}) == []  # the first turn


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({}, 500, None),
        ({"feature_std": 0.1 / math.sqrt(128) - 1e-6}, 1, "collapsed"),
        ({"feature_std": 0.1 / math.sqrt(128) + 1e-6}, 1, None),
        ({"loss": math.log(1025) + 0.005}, 500, "guessing"),
        ({"loss": math.log(1025) + 0.02}, 500, None),
        ({"loss": math.log(1025)}, 100, None),
        ({"top1": 99.95}, 500, "too easily"),
        ({"top1": 100.0}, 100, None),
        ({"loss": math.nan}, 1, "diverged"),
        ({"loss": math.inf}, 1, "diverged"),
    ],
)
def test_health_is_said_in_words(changes, step, words):
    messages = health_messages(HEALTHY | changes, step=step, **SIZES)
    assert len(messages) == (words is not None)
    assert all(words in message for message in messages)


def test_collapse_names_the_data_first_where_many_images_show_nothing():
    collapsed = HEALTHY | {"feature_std": 0.0}
    (message,) = health_messages(collapsed, step=1, blank_share=0.5, **SIZES)
    assert message.index("Look at the data first: 50% of the images are black") < message.index(
        "Check the learning rate"
    )
    (message,) = health_messages(collapsed, step=1, blank_share=0.05, **SIZES)
    assert "data" not in message


RISING = [20 + n for n in range(30)]  # ends in 49
DIPS = {
    "rising": (RISING, 256, []),
    "too short to tell": ([40.0] * 9 + [5.0] * 3, 256, []),
    "a dip, and what comes back": ([*RISING, 15.0, 15.0, 15.0, *RISING[20:]], 256, [31]),
    "two of them": ([*RISING, *[20.0] * 12, *RISING, *[20.0] * 3], 256, [31, 73]),
    "one low point": ([*RISING, 30.0, *RISING[20:]], 256, []),
    "a slow fall": ([60 - n / 2 for n in range(80)], 256, []),
    "less than a fifth": ([50.0] * 12 + [41.0] * 3, 4096, []),
    "a little more": ([50.0] * 12 + [39.0] * 3, 4096, [14]),
    "chance, in so small a batch": ([50.0] * 12 + [20.0] * 3, 16, []),
    "no numbers": ([50.0] * 12 + [math.nan] * 3, 256, []),
}


@pytest.mark.parametrize(("top1", "batch_size", "places"), DIPS.values(), ids=DIPS)
def test_dips_of_the_in_batch_accuracy(top1, batch_size, places):
    assert dips(top1, batch_size) == places


@pytest.mark.parametrize("steadier", ["a smaller learning rate", ""])
def test_a_dip_is_said_once_where_it_begins(reporter, tmp_path, steadier):
    reporter.start(tmp_path, 600, 0, healthy=SIZES | {"steadier": steadier})
    for number, top1 in enumerate([*RISING, *[10.0] * 5]):
        reporter.metrics(10 * number, HEALTHY | {"top1": top1})
    wanted = "health: the in-batch accuracy dips at step 310, to 10.0 %: the training is unstable"
    lines = [line for line in said(reporter).splitlines() if line.startswith("health")]
    assert len(lines) == bool(steadier) and all(line.startswith(wanted) for line in lines)


@pytest.mark.parametrize(
    ("changes", "steadier"),
    [
        ({"freeze_patch_projection": True}, "a smaller learning rate"),
        ({}, "--freeze-patch-projection true, or a smaller learning rate"),
        ({"encoder": "resnet18"}, ""),
    ],
)
def test_dips_are_of_a_vit_that_v3_trains(changes, steadier):
    config = RECIPES["moco-v3-vit-s"].config
    config = config.model_copy(update={"freeze_patch_projection": False} | changes)
    assert health_settings(config)["steadier"] == steadier
    assert "steadier" not in health_settings(RECIPES["moco-v2"].config)


@pytest.fixture
def reporter():
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), soft_wrap=True)
    yield reporter
    reporter.close()


def said(reporter):
    return reporter.console.file.getvalue()


def test_a_logging_point_goes_to_file_curves_and_console(reporter, tmp_path):
    reporter.start(tmp_path, 20, 0, healthy=SIZES)
    reporter.metrics(10, HEALTHY)
    reporter.metrics(20, HEALTHY | {"loss": 4.0})
    reporter.close()
    assert rows(tmp_path) == [{"step": 10} | HEALTHY, {"step": 20} | HEALTHY | {"loss": 4.0}]
    assert points(tmp_path, "train/loss") == [(10, 5.0), (20, 4.0)]
    assert points(tmp_path, "train/top1") == [(10, 40.0), (20, 40.0)]
    tags = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["tensors"]
    assert {"train/top5", "train/learning_rate", "health/feature_std"} <= set(tags)
    assert "step 10/20  epoch 1  loss 5.000  top1 40.0%" in said(reporter).splitlines()[0]


def terminal(width):
    """A terminal of so many columns, whose output is kept."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={})


@pytest.mark.parametrize("directions", [1, 2])
def test_a_terminal_shows_the_loss_beside_chance_and_its_course(reporter, tmp_path, directions):
    reporter.console = terminal(80)
    reporter.start(tmp_path, 40, 0, healthy=SIZES | {"directions": directions})
    for step, loss in ((10, 6.5), (20, 6.0), (30, 5.75)):
        reporter.metrics(step, HEALTHY | {"loss": loss})
    reporter._knn = "  kNN 61.2%"
    reporter.metrics(40, HEALTHY | {"loss": 5.5})
    reporter.close()
    chance = {1: "6.93", 2: "13.86"}[directions]  # log(1025), and twice that
    shown = f"epoch 1  loss 5.50 (chance {chance}) █▅▃▁  top1 40.0%  kNN 61.2%"
    line = next(line for line in reversed(said(reporter).splitlines()) if "ETA" in line)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
    assert shown in plain
    assert "100% ETA" in plain
    assert rows(tmp_path)[-1]["loss"] == 5.5


def test_a_sparkline_has_a_bar_for_the_mean_of_each_part():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 7, 0, 0], width=2) == "█▁"
    assert sparkline([7, 5, 1, 3, 2, 0], width=3) == "█▂▁"  # of 6, 2 and 1
    assert sparkline([4, 4, 4]) == "▁▁▁"
    assert sparkline([math.nan, 1, math.inf, 2]) == "▁█"
    assert sparkline([math.nan]) == sparkline([]) == ""


BASELINES = {"knn_top1_untrained": 29.125, "knn_top1_pixels": 40.5}


def test_an_evaluation_has_a_row_of_its_own_and_lines_to_compare_with(reporter, tmp_path):
    reporter.start(tmp_path, 20, 0, healthy=SIZES)
    reporter.evaluation(0, {"knn_top1": 29.125}, BASELINES)
    reporter.metrics(10, HEALTHY)
    reporter.evaluation(10, {"knn_top1": 61.25}, BASELINES)
    reporter.metrics(20, HEALTHY)
    reporter.close()
    assert rows(tmp_path) == [
        {"step": 0, "knn_top1": 29.125, "knn_top1_pixels": 40.5},
        {"step": 10} | HEALTHY,
        {"step": 10, "knn_top1": 61.25},
        {"step": 20} | HEALTHY,
    ]
    assert points(tmp_path, "knn/top1") == [(0, 29.125), (10, 61.25)]
    assert points(tmp_path, "knn/top1_untrained") == [(0, 29.125), (10, 29.125)]
    assert points(tmp_path, "knn/top1_pixels") == [(0, 40.5), (10, 40.5)]
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (shown,) = curves.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tf.make_ndarray(shown.tensor_proto).item())
    (lines,) = layout.category[0].chart[0].multiline.tag
    drawn = {tag for tag in curves.Tags()["tensors"] if re.match(lines, tag)}
    assert drawn == {"knn/top1", "knn/top1_untrained", "knn/top1_pixels"}
    lines = said(reporter).splitlines()
    assert lines[0] == "step 0, untrained: kNN top-1 29.12% (raw pixels 40.50%)"
    assert lines[2] == "step 10: kNN top-1 61.25%"
    assert "kNN 61.2%" in lines[3]


def test_an_evaluation_without_labels(reporter, tmp_path):
    untrained = {"alignment_untrained": 0.5, "effective_rank_untrained": 2.0}
    reporter.start(tmp_path, 20, 10)
    reporter.evaluation(20, {"alignment": 0.25, "effective_rank": 12.0}, untrained)
    reporter.close()
    assert rows(tmp_path) == [{"step": 20, "alignment": 0.25, "effective_rank": 12.0}]
    assert points(tmp_path, "label_free/alignment") == [(20, 0.25)]
    assert points(tmp_path, "label_free/alignment_untrained") == [(20, 0.5)]
    assert points(tmp_path, "label_free/effective_rank_untrained") == [(20, 2.0)]
    assert said(reporter) == "step 20: alignment 0.250  effective rank 12.000\n"


@pytest.mark.parametrize("step", [0, 10])
def test_a_resumed_run_repeats_no_evaluation(tmp_path, step):
    """It is killed after an evaluation that the checkpoint of `step` has not seen yet."""
    mark = None
    for resumed in (0, step):
        next_second()
        reporter = Reporter()
        reporter.console = Console(file=io.StringIO(), soft_wrap=True)
        reporter.start(tmp_path, 20, resumed, before=mark)
        if not resumed:
            reporter.evaluation(0, {"knn_top1": 29.125}, BASELINES)
            reporter.metrics(10, HEALTHY)
            mark = reporter.written()
        reporter.evaluation(10, {"knn_top1": 61.25}, BASELINES)
        reporter.close()
    assert [row["step"] for row in rows(tmp_path)] == [0, 10, 10]
    if not step:
        assert points(tmp_path, "knn/top1") == [(0, 29.125), (10, 61.25)]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(reporter, tmp_path):
    """Kept for good, the numbers of 2,000 rows would be 9 MB."""

    def write(steps):
        for step in steps:
            reporter.metrics(step, {name: value + step for name, value in HEALTHY.items()})

    reporter.start(tmp_path, 2200, 0)
    write(range(200))
    before = resident_bytes()
    write(range(200, 2200))
    assert resident_bytes() - before < 3e6


def test_a_warning_is_said_once_and_nan_is_null(reporter, tmp_path):
    reporter.start(tmp_path, 20, 0, healthy=SIZES)
    for step in (10, 20):
        reporter.metrics(step, HEALTHY | {"loss": math.nan})
    assert said(reporter).count("diverged") == 1
    assert rows(tmp_path)[0]["loss"] is None


def test_resuming_drops_later_rows_and_a_row_cut_off_by_a_kill(reporter, tmp_path, capsys):
    there = [json.dumps({"step": step, "loss": 1.0}) for step in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*there, '{"step": 4']))
    reporter.start(tmp_path, 40, 20, healthy=SIZES)
    reporter.metrics(30, HEALTHY)
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30]
    assert "broken line" in capsys.readouterr().err


def next_second():
    """Later files of curves sort after earlier ones: within a second a process numbers them."""
    time.sleep(1 - time.time() % 1)


def points(run_dir, tag):
    curves = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in curves.Tensors(tag)]


@pytest.mark.parametrize(("resumed", "shown"), [(0, True), (20, False)])
def test_the_config_is_among_the_hparams_of_a_new_run(tmp_path, resumed, shown):
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), soft_wrap=True)
    config = {"width": 8, "xla": False, "schedule": "step", "devices": None, "milestones": [1, 2]}
    reporter.start(tmp_path, 60, resumed, config=config)
    reporter.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data = [
        value.metadata.plugin_data
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    found = [
        HParamsPluginData.FromString(one.content) for one in data if one.plugin_name == "hparams"
    ]
    assert len(found) == (1 if shown else 0)
    for one in found:
        values = one.session_start_info.hparams
        assert values["width"].number_value == 8 and values["schedule"].string_value == "step"
        assert values["xla"].bool_value is False and values["devices"].string_value == "None"
        assert values["milestones"].string_value == "[1, 2]"


def test_curves_of_a_resumed_run_show_each_step_once(tmp_path):
    """Parts from step 0 to 50, from the checkpoint of 20 to 30, and from that of 0 to 20."""
    shown = []
    for part, (resumed, last) in enumerate([(0, 50), (20, 30), (0, 20)]):
        next_second()
        reporter = Reporter()
        reporter.console = Console(file=io.StringIO(), soft_wrap=True)
        reporter.start(tmp_path, 60, resumed, healthy=SIZES)
        for step in range(resumed + 10, last + 1, 10):
            reporter.metrics(step, HEALTHY | {"loss": 100.0 * part + step})
        reporter.close()
        shown.append(points(tmp_path, "train/loss"))
    assert shown[0] == [(10, 10.0), (20, 20.0), (30, 30.0), (40, 40.0), (50, 50.0)]
    assert shown[1] == [(10, 10.0), (20, 20.0), (30, 130.0)]
    assert shown[2] == [(10, 210.0), (20, 220.0)]


def test_a_full_disk_is_one_line(reporter, tmp_path):
    reporter.start(tmp_path, 20, 0, healthy=SIZES)
    reporter._rows = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(InputError, match=r"no space left to write .*metrics\.jsonl"):
        reporter.metrics(10, HEALTHY)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_freed_memory_that_the_c_library_holds_is_given_back():
    blocks = [bytes(4096) for _ in range(25_000)]  # 100 MB; the last one pins what is before it
    last = blocks[-1]
    del blocks
    before = resident_bytes()
    give_back_freed_memory()
    assert before - resident_bytes() > 80e6
    assert len(last) == 4096


def test_an_interval_counts_waiting_and_leaves_out_what_is_apart(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 9.0, 12.0, 12.0])
    monkeypatch.setattr("moco_tf.training.reporting.time.perf_counter", lambda: next(clock))
    interval = StepClock()  # at 0
    with interval.waiting():  # 1 to 3
        interval.steps += 5
    with interval.excluded() as spent:  # 4 to 9
        pass
    assert spent.seconds == 5.0
    result = interval.close(16)  # at 12
    assert result["seconds"] == pytest.approx(12 - 5)
    assert result["data_wait"] == pytest.approx(2 / 7)
    assert result["images_per_second"] == pytest.approx(5 * 16 / 7)


def test_seconds_that_were_taken_are_not_counted_again(monkeypatch):
    times = iter([0.0, 8.0, 8.0, 10.0, 11.0, 13.0, 20.0, 20.0, 21.0, 21.0])
    monkeypatch.setattr("moco_tf.training.reporting.time.perf_counter", lambda: next(times))
    interval = StepClock()  # at 0
    interval.end_of_first_step()  # at 8
    assert interval.lap() == 10.0
    with interval.excluded():  # 11 to 13
        interval.steps += 6
    result = interval.close(10)  # at 20
    assert result == {"images_per_second": 6.0, "data_wait": 0.0, "seconds": 8.0}
    assert interval.lap() == 1.0  # at 21


def test_the_first_step_counts_for_speed_only_where_it_stands_alone(monkeypatch):
    times = iter([0.0, 8.0, 8.0, 10.0, 10.0, 20.0, 29.0, 29.0, 29.0, 29.0])
    monkeypatch.setattr("moco_tf.training.reporting.time.perf_counter", lambda: next(times))
    interval = StepClock()  # at 0
    interval.steps += 1
    assert interval.end_of_first_step() == 8.0
    interval.steps += 4
    assert interval.close(16) == {"images_per_second": 32.0, "data_wait": 0.0, "seconds": 10.0}
    alone = StepClock()  # at 20
    alone.steps += 1
    alone.end_of_first_step()  # at 29
    assert alone.close(18) == {"images_per_second": 2.0, "data_wait": 0.0, "seconds": 9.0}


@pytest.mark.parametrize(
    "row", ['{"step": "3"}', '{"step": null}', '{"step": [1]}', "[" * 100_000, "3", '{"a": 1}']
)
def test_a_row_that_is_none_is_dropped(tmp_path, row, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{row}\n{{"step": 2}}\n{{"step": 3}}\n')
    assert rows_until(path, 2) == ['{"step": 1}\n', '{"step": 2}\n']
    assert capsys.readouterr().err.count("a broken line was dropped") == 1


def test_a_line_that_nobody_reads_ends_the_command(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(BrokenPipeError):  # which `main` turns into 141
            Reporter().line("step 1")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
