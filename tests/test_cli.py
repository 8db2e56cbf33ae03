"""The command line: precedence, one-line errors, and a fast --help."""

import json
import subprocess
import sys

import pytest

from moco_tf.cli import main, resolve_config
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES


def test_help_does_not_import_tensorflow():
    code = (
        "import sys; from moco_tf.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flags_win_over_yaml_and_yaml_over_the_recipe(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("temperature: 0.3\nepochs: 7\n")
    config = resolve_config("moco-v2", str(file), {"epochs": "9", "symmetric": "true"})
    assert (config.temperature, config.epochs, config.symmetric) == (0.3, 9, True)
    assert config.head == "mlp"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nonsense"], "unknown recipe 'nonsense'"),
        (["--batch-size", "100"], "batch_size=100"),
        (["--temperature", "-1"], "temperature"),
        (["--epochs", "many"], "epochs='many'"),
        (["--devices", "3"], "devices=3"),
        (["--config", "/absent.yaml"], "config=/absent.yaml"),
        (["--data", "/absent"], "data='/absent'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(capsys, tmp_path, flags, message):
    run_dir = [] if "nonsense" in flags else ["--run-dir", str(tmp_path / "run")]
    assert main(["pretrain", *flags, *run_dir]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("moco-tf: error: ")
    assert message in error


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


def test_unknown_yaml_field_is_named(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("tempreture: 1\n")
    with pytest.raises(InputError, match="tempreture"):
        resolve_config("shapes", str(file), {})
