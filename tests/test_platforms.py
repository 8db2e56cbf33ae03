"""What a system lacks: native Windows has no `fcntl` and no `resource`, macOS has no /proc."""

import json
import subprocess
import sys

import numpy as np
import pytest

from moco_tf.commands import cli

HIDE = """
import sys

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(2, "hidden", arguments[0])

sys.addaudithook(refuse)
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None  # its import raises ImportError
from moco_tf.commands.cli import main
sys.exit(main())
"""


def run_without(modules, *words, folder):
    return subprocess.run(
        [sys.executable, "-c", HIDE, modules, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--help"], "pretrain"),
        (["--version"], cli.__version__),
        (["pretrain", "moco-v2", "--help"], "--queue-size"),
        (["recipes"], "moco-v2-800ep"),
        (["completion", "bash"], "_shtab_moco_tf"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_light_commands_need_no_module_of_linux(words, shown, tmp_path):
    done = run_without("fcntl,resource", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.slow
def test_training_is_refused_without_locks(tmp_path):
    done = run_without("fcntl,resource", "pretrain", "shapes", "--max-steps", "1", folder=tmp_path)
    assert done.returncode == 2
    assert "no file locks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/shapes/*.json"))


@pytest.mark.slow
def test_training_needs_neither_proc_nor_resource(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=images)
    sizes = "--stem small --image-size 8 --batch-size 16 --group-size 8 --queue-size 32 --width 4"
    words = ["pretrain", "small", "--data", "noise.npz", "--max-steps", "1", "--json"]
    done = run_without("resource", *words, *sizes.split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak_memory_bytes"] == 0


def test_native_windows_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.main(["recipes"]) == 2
    assert capsys.readouterr().err == (
        "moco-tf: error: moco-tf does not run on native Windows. Use WSL 2.\n"
    )
