"""What a report says of folders as they are found: verdicts, curves, settings, what is missing."""

import json
import math
import re
import shlex

import pytest
from support.written_runs import ROWS, evaluated, logged, write_probe, write_run

from moco_tf.api.report import report
from moco_tf.api.settings import resolve_config
from moco_tf.commands.cli import _parser, main
from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.report.charts import Chart, Line
from moco_tf.report.curves import charts_of, overlaid
from moco_tf.report.read import read
from moco_tf.report.settings import command_of, differences, settings_of
from moco_tf.report.verdict import verdict_of
from moco_tf.report.write import SECTIONS


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def sections(path):
    return re.findall(r'<section id="(\w+)"', path.read_text())


def test_a_report_has_every_section_and_its_figures(run, capsys):
    assert main(["report", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert sections(run / "report.html") == list(SECTIONS)
    assert figures["out"] == str(run / "report.html")
    assert figures["verdict"][0]["learned"] is True
    assert "kNN top-1 is 65.0 %, untrained 29.0 %" in figures["verdict"][0]["sentences"][0]
    loss = figures["curves"]["loss"]["lines"]
    assert loss["loss"]["x"] == [step / 4 for step in range(1, 9)]
    assert loss["loss"]["y"] == pytest.approx([6.0 - step / 10 for step in range(1, 9)])
    assert loss["chance, log(1+K)"]["y"] == pytest.approx([math.log(513)] * 2)


@pytest.mark.parametrize(
    ("steps", "epochs", "found"),
    [
        ([10, 20, 40, 48], [0, 1, 2, 2], 16),  # 16 to 19 fit; 48 is the end of 3 epochs of 16
        ([10, 20, 40, 47], [0, 1, 2, 2], 19),
        ([10, 20], [0, 0], None),
        ([33, 64, 65], [1, 1, 2], 32),
    ],
)
def test_steps_of_an_epoch(tmp_path, steps, epochs, found):
    rows = [logged(step, epoch=epoch) for step, epoch in zip(steps, epochs, strict=True)]
    folder = write_run(tmp_path / "run", rows, {"step": steps[-1]}, epochs=3)
    assert read(folder).epoch_steps == found


def test_levels_to_compare_with(run):
    charts = charts_of(read(run))
    lines = {line.name: line.y[-1] for line in charts["knn_top1"].lines}
    assert lines == {"trained": 65.0, "untrained": 29.0, "raw pixels": 40.0}
    lines = {line.name: line.y[-1] for line in charts["feature_std"].lines}
    assert lines["spread over the sphere, 1/sqrt(dim)"] == pytest.approx(128**-0.5)


@pytest.mark.parametrize(("last", "shown"), [(0.99, False), (1.0, True)])
def test_the_key_momentum_is_shown_where_it_changes(tmp_path, last, shown):
    rows = [logged(1, momentum=0.99), logged(2, momentum=last)]
    charts = charts_of(read(write_run(tmp_path / "run", rows)))
    assert ("key_momentum" in charts) is shown
    if shown:
        assert charts["key_momentum"].lines[0].y == [0.99, 1.0]


def test_steps_of_a_resumed_run_count_once(tmp_path):
    rows = [logged(1), logged(2, loss=9.0), {"step": 3}, logged(2, loss=5.5), logged(3)]
    found = read(write_run(tmp_path / "run", rows))
    assert [row["step"] for row in found.logged] == [1, 2, 3]
    assert found.logged[1]["loss"] == 5.5


VERDICTS = {
    "learned": (ROWS, True, "It has learned: kNN top-1 is 65.0 %"),
    "below the pixels": (
        [*ROWS[:-1], evaluated(8, 35.0)], True, "It has learned, but not yet more than the raw"
    ),
    "not learned": ([*ROWS[:-1], evaluated(8, 30.0)], False, "It has not learned: kNN top-1 is 30"),
    "not evaluated": (ROWS[:-1], None, "Whether it has learned is not known"),
    "without labels": (
        [{"step": 0, "view_retrieval": 2.0, "effective_rank": 5.0}, logged(1),
         {"step": 1, "view_retrieval": 6.0, "effective_rank": 20.0}],
        True, "each other in 6.0 % of the cases, with the untrained encoder in 2.0 %, and its "
        "effective rank is 20.0, was 5.0.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "learned", "result"), VERDICTS.values(), ids=VERDICTS)
def test_whether_it_has_learned(tmp_path, rows, learned, result):
    verdict = verdict_of(read(write_run(tmp_path / "run", rows)))
    assert verdict.learned is learned
    assert result in verdict.result


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Nothing is off in its numbers."),
        ({"feature_std": 0.0001}, "The features have collapsed"),
        ({"loss": None}, "the run has diverged"),
        ({"data_wait": 0.9}, "Training waited for images in 90 % of the time."),
    ],
)
def test_what_is_off(tmp_path, changes, said):
    rows = [ROWS[0], logged(4, **changes), ROWS[-1]]
    assert said in verdict_of(read(write_run(tmp_path / "run", rows))).health


@pytest.mark.parametrize(
    ("low", "said"),
    [([20.0] * 3, "dipped once, first at step 22: the"), ([40.0] * 3, "Nothing is off")],
)
def test_a_dip_of_a_vit_is_told(tmp_path, low, said):
    rows = [logged(10 + n, top1=top1) for n, top1 in enumerate([45.0] * 11 + low + [45.0] * 5)]
    found = read(write_run(tmp_path / "run", rows, recipe="cifar10-v3-vit"))
    assert said in verdict_of(found).health


def test_advice_goes_on_with_a_run_that_still_gets_better(tmp_path):
    rows = [ROWS[0], logged(1), evaluated(4, 50.0), logged(5), evaluated(8, 60.0)]
    advice = verdict_of(read(write_run(tmp_path / "run", rows))).advice
    assert advice.endswith(f"--run-dir {tmp_path / 'run'} --epochs 16 --extend.")


def test_what_differs_from_the_recipe_is_marked_and_in_the_command(tmp_path):
    found = read(write_run(tmp_path / "run", width=8, milestones=(1, 2), augment_on="host"))
    marked = {one.name: one.usual for one in settings_of(found) if one.marked}
    assert marked == {
        "width": 16, "milestones": [120, 160], "augment_on": "auto", "run_dir": None
    }  # fmt: skip
    assert command_of(found) == (
        "moco-tf pretrain shapes --augment-on=host --width=8 --milestones=1,2 "
        f"--run-dir={tmp_path / 'run'}"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 8, "milestones": (), "symmetric": True, "devices": 2, "lr_drop": 0.5},
        {"augmentation": {"gray": 0.1}, "seed": 5},
        {"data": "a folder/'with quotes'"},
    ],
)
def test_the_command_makes_the_same_config(tmp_path, changes):
    found = read(write_run(tmp_path / "a run", **changes))
    words = shlex.split(command_of(found))[1:]
    given = vars(_parser(words).parse_args(words))
    settings = {n: v for n, v in given.items() if n in Config.model_fields and n != "recipe"}
    same = resolve_config(given["recipe"], given["config"], settings, say=print)
    folder = {"run_dir": None, "data_path": None}
    assert same.model_copy(update=folder) == found.config.model_copy(update=folder)


def test_two_runs_lie_over_one_another(run, tmp_path):
    other = write_run(tmp_path / "other", temperature=0.07)
    done = report([str(run), str(other)], out=str(tmp_path / "both.html"))
    assert sections(done.path) == list(SECTIONS)
    assert list(done.figures["curves"]["loss"]["lines"]) == [
        "run: loss", "run: chance, log(1+K)", "other: loss"
    ]  # fmt: skip
    assert done.figures["config"]["differences"] == {"temperature": [0.2, 0.07]}
    assert differences([read(run), read(run)]) == {}


def test_over_one_another_a_level_of_several_runs_is_drawn_once_and_curves_have_the_first_colours():
    def chart(epochs, untrained):
        curve = Line("trained", [0, epochs], [20.0, 60.0])
        levels = [Line(name, [0, epochs], [y, y], dashed=True) for name, y in untrained.items()]
        return {"knn": Chart("kNN", (curve, *levels))}

    runs = [("a", chart(3, {"pixels": 40.0, "untrained": 25.0}))]
    runs += [("b", chart(9, {"pixels": 40.0, "untrained": 26.0}))]
    lines = overlaid(runs)["knn"].lines
    assert [(one.name, list(one.x), one.y[0], one.color) for one in lines] == [
        ("a: trained", [0, 3], 20.0, 0), ("a: pixels", [0, 9], 40.0, 2),
        ("a: untrained", [0, 3], 25.0, 3), ("b: trained", [0, 9], 20.0, 1),
        ("b: untrained", [0, 9], 26.0, 4),
    ]  # fmt: skip


def test_fields_that_an_older_run_has_not_are_as_by_default(run, tmp_path):
    older = write_run(tmp_path / "older")
    fields = json.loads((older / "config.json").read_text())
    del fields["sha256"], fields["track"], fields["accumulation_steps"]
    (older / "config.json").write_text(json.dumps(fields))
    assert differences([read(run), read(older)]) == {}


def test_a_probe_has_its_own_report_and_is_in_that_of_its_run(run):
    probe = run / "probe"
    probe.mkdir()
    done = report([str(write_probe(probe))])
    assert sections(done.path) == list(SECTIONS)
    lines = done.figures["curves"]["classifier_accuracy"]["lines"]
    assert lines["validation, lr 30"] == {"x": [1.0, 2.0], "y": [41.0, 42.0]}
    assert done.figures["verdict"][0]["sentences"][0].endswith("42.0 %; chance is 10.0 %.")
    of_run = report([str(run)]).figures
    assert "probe/classifier_accuracy" in of_run["curves"]
    assert of_run["config"]["results"][0]["probe"]["top1"] == 42.0


def test_what_is_missing_is_said(tmp_path):
    folder = write_run(tmp_path / "run", ROWS[:5], summary=False)
    said = read(folder).missing
    assert "It has not come to its end: the last step that it tells of is 4." in said
    assert "It holds no checkpoint, so there is no encoder to look at." in said
    (folder / "metrics.jsonl").unlink()
    (folder / "summary.json").write_text("{")
    said = " ".join(report([str(folder)]).figures["missing"][0])
    assert "metrics.jsonl cannot be read" in said and "summary.json cannot be read" in said


def test_rows_that_are_none_are_passed_over(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'[]\n{"step": true}\n{"step": 9, "loss": "x"}\n\xff\n{"step": 10, "lo')
    assert max(row["step"] for row in read(folder).logged) == 8


BAD = {
    "no folder": (["nowhere"], "nowhere is not a run folder: it has no config.json."),
    "a folder as the file": (["run", "--out", "."], r"out=\. is a folder. Give a file: --out "),
    "one of two": (["run", "nowhere"], "nowhere is not a run folder"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_told_in_one_line(run, monkeypatch, capsys, words, said):
    monkeypatch.chdir(run.parent)
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert re.match(f"moco-tf: error: {said}", error) and error.count("\n") == 1


def test_a_damaged_config_is_refused(run):
    (run / "config.json").write_text('{"recipe": "shapes", "width": -1}')
    with pytest.raises(InputError, match="is not the config of a run"):
        read(run)
