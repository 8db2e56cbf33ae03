"""A disk that fills up while a run saves: a small file system in memory, mounted by the test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import START, TINY

from moco_tf.runs import checkpoint

pytestmark = pytest.mark.slow

# Run as root of a namespace of its own, in which the mount is seen by nobody else: fills the disk
# when the first checkpoint stands, starts again in vain, makes room, and lets the run end.
SCRIPT = """
import contextlib, json, pathlib, subprocess, sys, time
mount, report, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", mount], check=True)
mount = pathlib.Path(mount)
run_dir, ballast, found = mount / "run", mount / "ballast", []

def start():
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, f"--run-dir={run_dir}"], **said)

def end(process):
    said = process.communicate()[0]
    left = {p.name: p.read_bytes().hex() for p in run_dir.glob("checkpoints/*")}
    hidden = [p.name for p in run_dir.glob("**/.*.tmp")]
    found.append({"code": process.returncode, "said": said, "files": left, "hidden": hidden})

process = start()
while process.poll() is None and not list(run_dir.glob("checkpoints/step-*")):
    time.sleep(0.001)
with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
end(process)
end(start())
ballast.unlink()
end(start())
found[-1]["summary"] = json.loads((run_dir / "summary.json").read_text())
pathlib.Path(report).write_text(json.dumps(found))
"""


def in_a_namespace(*command):
    return subprocess.run(
        ["unshare", "-Urm", *command], capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(data, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to mount a small disk with")
    tried = in_a_namespace("mount", "-t", "tmpfs", "-o", "size=4m", "none", str(mount))
    if tried.returncode:
        pytest.skip(f"no small disk can be mounted here: {tried.stderr.strip()}")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (TINY | {"epochs": 100}).items()]
    command = [sys.executable, "-c", START, "pretrain", "shapes", *flags, f"--data={data}"]
    report = tmp_path / "report.json"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    whole = tmp_path / "whole"
    subprocess.run([*command, f"--run-dir={whole}"], env=environment, check=True)
    done = in_a_namespace(sys.executable, "-c", SCRIPT, str(mount), str(report), *command)
    assert done.returncode == 0, done.stderr
    full, in_vain, last = json.loads(report.read_text())
    for part in (full, in_vain):
        assert part["code"] == 2 and "Traceback" not in part["said"], part["said"]
        assert part["said"].splitlines()[-1].startswith("moco-tf: error: "), part["said"]
        assert part["hidden"] == []
        steps = _steps_of_whole_files(part["files"], tmp_path)
        assert steps and max(steps) < 300
    assert "no space left to write" in full["said"]
    assert last["code"] == 0, last["said"]
    wanted = json.loads((whole / "summary.json").read_text())
    assert last["summary"]["state_sha256"] == wanted["state_sha256"]


def _steps_of_whole_files(files: dict[str, str], folder: Path) -> list[int]:
    steps = []
    for content in files.values():
        path = folder / "copy.safetensors"
        path.write_bytes(bytes.fromhex(content))
        steps.append(checkpoint.load(path)[1])  # raises if it is damaged
    return steps
