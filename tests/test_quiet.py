"""The process of a command: TensorFlow's kernels in it."""

import json
import os
import subprocess
import sys

import pytest
from support.runs import wait_for_step

from moco_tf.commands import quiet

SWITCH = "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [("x86_64", None, "1"), ("x86_64", "0", "0"), ("arm64", None, None)],
)
def test_onednn_is_on_where_nobody_says_otherwise(monkeypatch, machine, given, expected):
    monkeypatch.setattr(quiet.platform, "machine", lambda: machine)
    monkeypatch.setattr(quiet.os, "environ", {} if given is None else {SWITCH: given})
    quiet.use_onednn()
    assert quiet.os.environ.get(SWITCH) == expected


@pytest.mark.slow
def test_without_avx512_onednn_repeats_a_training_over_a_kill(tmp_path):
    """All that TensorFlow asks of oneDNN is then as on a processor that has AVX2 only."""
    flags = {"--width": "8", "--epochs": "2", "--max-steps": "24", "--checkpoint-every": "5"}
    flags |= {"--precision": "float32", "--knn-max-bank": "200", "--knn-max-queries": "50"}
    words = [word for flag in flags.items() for word in flag] + ["--json", "--no-report"]

    def start(name, **switches):
        command = [sys.executable, "-m", "moco_tf", "pretrain", "shapes", *words]
        return subprocess.Popen(
            [*command, "--run-dir", str(tmp_path / name)],
            env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"} | switches,
            stdout=subprocess.PIPE,
        )

    def state(process):
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0
        return json.loads(said.splitlines()[-1])["state_sha256"]

    killed = start("killed")
    wait_for_step(tmp_path / "killed", killed, 10, timeout=600)
    killed.kill()
    killed.communicate()
    whole = state(start("whole"))
    assert state(start("killed")) == whole
    assert state(start("plain", **{SWITCH: "0"})) != whole
