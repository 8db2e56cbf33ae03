"""The command line: precedence, one-line errors, and a fast --help."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from moco_tf.api.settings import resolve_config
from moco_tf.commands.cli import COMMANDS, main
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES

NAMES = [usage.split()[0] for usage in COMMANDS]


def test_no_help_imports_what_takes_seconds():
    code = (
        "import contextlib, io, sys; from moco_tf.commands.cli import main\n"
        f"for command in ([], *([name] for name in {NAMES})):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main([*command, '--help'])\n"
        "    heavy = {'tensorflow', 'keras', 'torch', 'rich', *(() if command else ['pydantic'])}\n"
        "    assert not heavy & set(sys.modules), (command, heavy & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flags_win_over_yaml_and_yaml_over_the_recipe(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("temperature: 0.3\nepochs: 7\n")
    config = resolve_config("moco-v2", str(file), {"epochs": "9", "symmetric": "true"})
    assert (config.temperature, config.epochs, config.symmetric) == (0.3, 9, True)
    assert config.head == "mlp"


# Refused before TensorFlow starts: the arguments, and what the one line says.
BAD = [
    ("pretrain nonsense", "unknown recipe 'nonsense'. Known recipes: moco-v1, moco-v2,"),
    ("pretrain moco-v3", "unknown recipe 'moco-v3'. Did you mean moco-v2? Known recipes:"),
    ("pretrain shape --epochs 1", "unknown recipe 'shape'. Did you mean shapes?"),
    ("pretrain --batch-size 100", "batch_size=100"),
    ("pretrain --temperature -1", "received temperature='-1'"),
    ("pretrain --temperature -1e-3", "received temperature='-1e-3'"),
    ("pretrain --temperature=-.5", "received temperature='-.5'"),
    ("pretrain --temperature -inf", "received temperature='-inf'"),
    ("pretrain --epochs many", "epochs='many'"),
    ("pretrain --epochs", "argument --epochs: expected one argument. See moco-tf pretrain --help."),
    ("pretrain --devices 3", "devices=3"),
    ("pretrain --first-epoch 2", "first_epoch='2'"),
    ("pretrain --augmentation v4", "v1, v2, demo, simclr, v3, satellite, microscopy or a descri"),
    (
        "pretrain --augmentation satelite",
        "received augmentation='satelite'. Did you mean satellite?",
    ),
    ("pretrain --config /absent.yaml", "config=/absent.yaml"),
    ("pretrain --config ''", "config="),
    ("pretrain --data /absent", "data='/absent'"),
    ("pretrain --data ''", "data=''"),
    ("pretrain --bach-size 3", "--bach-size. Did you mean --batch-size?"),
    ("pretrain --batch 64", "--batch. Did you mean --batch-size?"),  # no abbreviations
    ("pretrain --temp=1", "--temp=1. Did you mean --temperature?"),
    ("pretrain --symmetric shapes", "must be true or false; received shapes."),
    ("pretrain --symmetric 'a\nb'", "received a\\nb"),
    ("pretrain --no-symmetric=1", "argument --no-symmetric: ignored explicit argument '1'"),
    ("pretrain shapes v2", "v2. See moco-tf pretrain --help."),
    ("pretrain --worker-index 0 --extend=1", "argument --extend: ignored explicit argument '1'"),
    ("estimate --extend", "unknown argument --extend"),
    ("benchmark stpe", "argument WHAT: invalid choice: 'stpe' (choose from 'input', 'step',"),
    ("benchmark step --run-dir x", "unknown argument --run-dir"),
    ("knn", "the following arguments are required: RUN. See moco-tf knn --help."),
    ("knn run --k x", "argument --k: invalid int value: 'x'"),
    ("knn run --k 2.5", "argument --k: invalid int value: '2.5'"),
    (
        "knn run --features pool",
        "'pool' (choose from 'projection', 'pooled'). Did you mean pooled?",
    ),
    ("knn a b", "unknown argument b. See moco-tf knn --help."),
    ("knn /absent", "/absent"),
    ("probe run --lr", "argument --lr: expected at least one argument"),
    ("probe run --lr -3", "received lr="),
    ("probe run --no-baselines", "--no-baselines is for --quick"),
    ("probe run --quick --epochs 3", "--quick trains nothing and takes no --epochs."),
    ("finetune --from-scratch run", "must be true or false; received run. If that is another"),
    ("finetune run --label-fraction 0", "label_fraction='0'"),
    ("pack a b --max-bad-images 3", "argument --max-bad-images: must be from 0 to 1; received 3."),
    ("pack a b --max-bad-images few", "must be from 0 to 1; received few."),
    ("embed run", "the following arguments are required: --out. See moco-tf embed --help."),
    ("convert a b --to tim", "argument --to: invalid choice: 'tim'"),
    ("export run --format keras", "required: --out. See moco-tf export --help."),
    ("completion tcsh", "invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')"),
    ("recipes x", "unknown argument x. See moco-tf recipes --help."),
    ("pretrian", "argument COMMAND: invalid choice: 'pretrian'"),
    ("pretrian --help", "Did you mean pretrain?"),
    ("nothing", "See moco-tf --help."),
    ("--json knn run", "unknown argument --json"),
    ("", "COMMAND"),
]


def refused(line):
    """The exit code."""
    try:
        return main(shlex.split(line))
    except SystemExit as stopped:
        return stopped.code


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_before_tensorflow(capsys, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moco_tf.api.starting.start_tensorflow", None)
    assert refused(line) == 2
    said = capsys.readouterr()
    (error,) = said.err.splitlines()
    assert error.startswith("moco-tf: error: ") and message in error and not said.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_too_little_memory_is_one_line(capsys, tmp_path):
    assert refused(f"pretrain --queue-size 2147483647 --run-dir {tmp_path / 'run'}") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("moco-tf: error: ") and "not enough memory" in error


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        (["recipes", "--json"], "stdout"),
        (["recipes"], "stdout"),
        (["pretrain", "--help"], "stdout"),
        (["pretrain", "--bach-size", "3"], "stderr"),
        (["knn", "/absent"], "stderr"),
    ],
)
def test_output_that_nobody_reads_ends_a_command_as_a_signal_would(arguments, closed):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writer}
    command = [sys.executable, "-m", "moco_tf", *arguments]
    done = subprocess.run(command, check=False, env=environment, **streams)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert not done.stdout
    assert not done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cannot_be_written_is_one_line():
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "moco_tf", "recipes", "--json"]
        streams = {"stdout": full, "stderr": subprocess.PIPE}
        done = subprocess.run(command, check=False, env=environment, **streams)
    assert done.returncode == 2
    assert done.stderr == b"moco-tf: error: output: No space left on device.\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_ends_with_one_line(tmp_path, number):
    command = [sys.executable, "-m", "moco_tf", "pretrain", "--run-dir", str(tmp_path / "run")]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        while not (tmp_path / "run").exists():  # TensorFlow is up, the data are being opened
            time.sleep(0.05)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1].decode().splitlines()
    assert process.returncode == 128 + number
    assert len(errors) == 1
    assert re.search("interrupted (outside of the training steps|at step 1; saved)", errors[0])


def test_recipes_are_complete_and_listed(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed) == set(RECIPES)
    for name, recipe in RECIPES.items():
        assert recipe.config.recipe == name
        assert resolve_config(name, None, {}) == recipe.config


def test_official_recipes_have_the_published_numbers():
    v1, v2 = (RECIPES[f"moco-v{i}"].config for i in (1, 2))
    assert (v1.queue_size, v1.temperature, v1.key_momentum) == (65536, 0.07, 0.999)
    assert (v1.schedule, v1.milestones, v1.scaled_learning_rate) == ("step", (120, 160), 0.03)
    assert (v2.head, v2.temperature, v2.augmentation, v2.schedule) == ("mlp", 0.2, "v2", "cosine")
    demo = RECIPES["cifar10-demo"].config
    assert demo.scaled_learning_rate == pytest.approx(0.06)
    assert (demo.batch_size // demo.group_size, demo.group_layout) == (8, "interleaved")
    shapes = RECIPES["shapes"].config
    assert shapes.batch_size // shapes.group_size >= 4


def test_the_recipe_small_is_what_measured_best():
    """Of all that was trained for it on 5,000 images (docs/results.md)."""
    file = ROOT / "benchmarks" / "results" / "trainings_2026-11-27.jsonl"
    accuracies = {}
    for row in map(json.loads, file.read_text().splitlines()):
        setting = row["key"]["setting"]
        recipe = setting.pop("recipe", None)
        if recipe and not setting.pop("mask_same_image", False):  # which is no longer offered
            config = resolve_config(recipe, None, setting)
            accuracies.setdefault(config.model_dump_json(), []).append(row["curve"][-1])
    assert len(accuracies) == 5 and {len(seeds) for seeds in accuracies.values()} == {3}
    best = json.loads(max(accuracies, key=lambda config: sum(accuracies[config])))
    small = RECIPES["small"].config
    found = small.queue_size, small.key_momentum
    assert found == (best["queue_size"], best["key_momentum"])


def test_a_yaml_file_may_name_its_recipe(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("recipe: moco-v2\nepochs: 3\n")
    config = resolve_config(None, str(file), {})
    assert (config.recipe, config.head, config.epochs) == ("moco-v2", "mlp", 3)
    assert resolve_config("moco-v2", str(file), {}) == config
    with pytest.raises(InputError, match=r"'moco-v2'; received recipe='moco-v1'"):
        resolve_config("moco-v1", str(file), {})
    assert resolve_config(None, None, {}) == RECIPES["shapes"].config


def test_a_yaml_file_gives_each_field_once(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 1\nepochs: 2\n")
    with pytest.raises(InputError, match="'epochs' twice"):
        resolve_config("shapes", str(file), {})


LAUGHS = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]


@pytest.mark.parametrize(
    "text",
    [
        "epochs: 0x" + "f" * 5000,
        "epochs: " + "9" * 5000,
        "epochs: 2001-13-45",
        "epochs: !!int ''",
        "epochs: !!bool x",
        "epochs: !!python/object/apply:os.system ['touch ran']",
        "[" * 20_000,
        "recipe: [a]",
        "recipe: {a: 1}",
        "16: 1",
        "[a]: 1",
        "? {a: 1}\n: 1",
        "epochs: &a [*a]",
        "\n".join([*LAUGHS, "epochs: *a29"]),
        "\n".join([*LAUGHS[1:], "recipe: *a29"]).replace("*a0", "x"),
        "epochs: 3\n" * 10_000,
        "\n".join(f"k{i}: 1" for i in range(9_000)),
    ],
    ids=range(17),
)
def test_yaml_that_means_harm_is_one_line(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(InputError) as refused:
        resolve_config(None, "c.yaml", {})
    assert time.process_time() - started < 5
    assert str(refused.value).isprintable() and len(str(refused.value)) <= 2000
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("json_mode", [False, True])
def test_the_first_line_comes_before_tensorflow(tmp_path, capsys, monkeypatch, json_mode):
    """Which takes seconds; with --json standard output is for the object alone."""

    class StartsError(Exception):
        pass

    def start_tensorflow():
        raise StartsError

    monkeypatch.setattr("moco_tf.api.starting.start_tensorflow", start_tensorflow)
    with pytest.raises(StartsError):
        main(["pretrain", "--run-dir", str(tmp_path / "run"), *(["--json"] if json_mode else [])])
    said = capsys.readouterr()
    line, other = (said.err, said.out) if json_mode else (said.out, said.err)
    assert line.strip() == "0.0 s  starting TensorFlow" and not other
