"""Completion in a shell: commands, recipes, flags, their choices, and files."""

import json
import shutil
import subprocess

import pytest

from moco_tf.commands.cli import main
from moco_tf.commands.completion import SHELLS
from moco_tf.recipes import RECIPES

COMPLETED = {
    "moco-tf pr": {"pretrain", "preview", "probe"},
    "moco-tf pretrain moco-v1": {"moco-v1", "moco-v1-simclr"},
    "moco-tf pretrain --epochs 3 sm": {"small"},
    "moco-tf pretrain moco-v2 --augm": {"--augmentation", "--augment-on"},
    "moco-tf pretrain --augmentation v": {"v1", "v2", "v3"},
    "moco-tf pretrain --recompute t": {"true"},
    "moco-tf probe run --lr 30 10 --q": {"--quick"},
    "moco-tf neighbours run pho": {"photos.npz"},
    "moco-tf preview --data ph": {"photos.npz"},
    "moco-tf knn photos": {"photos.npz"},
    "moco-tf knn run --data ph": {"photos.npz"},
    "moco-tf export run --format k": {"keras"},
    "moco-tf benchmark st": {"step"},
    "moco-tf benchmark step sm": {"small"},
}
ASK = """
COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$words; COMP_POINT=${#words}
COMPREPLY=(); _shtab_moco_tf; echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_knows_recipes_and_choices(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*RECIPES, "device_resize", "--queue-size", "savedmodel"):
        assert word in script.replace("\\-", "-")
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": script[:-1]}
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path, capsys):
    (tmp_path / "photos.npz").write_text("")
    main(["completion", "bash"])
    asked = "".join(f"words='{words}'{ASK}" for words in COMPLETED)
    done = subprocess.run(
        ["bash", "--norc"], input=capsys.readouterr().out + asked, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [set(line.split()) for line in done.stdout.splitlines()] == list(COMPLETED.values())
