"""What is wrong with the arguments is told before TensorFlow is imported, which takes seconds."""

import json
import subprocess
import sys

# Each with a part of what is said; all are refused in one process, which must not import it.
REFUSED = {
    "knn nowhere": "nowhere is not a run folder",
    "knn notes.txt": "notes.txt is not an encoder file",
    "knn begun": "begun holds no checkpoint yet",
    "probe nowhere --quick": "nowhere is not a run folder",
    "finetune empty": "empty is not a run folder",
    "embed nowhere --out a.tsv": "out must end in .npy, .npz, .parquet, .csv; received out=a.tsv",
    "embed nowhere --out notes.npz": "notes.npz exists",
    "embed nowhere --out a.npz --projector notes.txt": "projector=notes.txt is a file",
    "embed nowhere --out a.npz": "nowhere is not a run folder",
    "export nowhere --format keras --out a.h5": "a file for keras must end in .keras",
    "export nowhere --format keras --out there.keras": "there.keras exists",
    "export nowhere --format keras --out a.keras": "nowhere is not a run folder",
    "convert nowhere a.txt --to timm": "a file for timm must end in .pth",
    "convert nowhere there.pth --to timm": "there.pth exists",
    "convert nowhere a.pth --to timm": "there is no file or folder nowhere",
    "convert notes.txt a.pth --to timm": "notes.txt is neither a PyTorch file",
    "convert begun a.pth --to timm": "begun holds no checkpoint yet",
    "pretrain --data nowhere": "there is no such file or folder",
    "pretrain small --data nowhere": "there is no such file or folder",
    "pretrain small --data notes.txt": "notes.txt lists 1 paths of folders, not of files",
    "pretrain small --data empty": "the folder empty holds no image",
    "pretrain --data notes": "notes holds no image",
    "pretrain shapes --run-dir other": "it has no config.json, but holds a.txt",
    "pretrain shapes --run-dir begun": "holds a run with another configuration: recipe",
    "pretrain shapes --run-dir new --init nowhere": "nowhere is not a run folder",
    "pretrain shapes --run-dir begun/new --init ours": "encoder (resnet50 there, resnet18 now)",
    "estimate --data nowhere": "there is no such file or folder",
    "benchmark input --data empty": "the folder empty holds no image",
    "pack nowhere packed": "there is no such file or folder",
    "knn ours --data nowhere": "there is no such file or folder",
    "knn ours": "ours was trained on data='photos', its own path, which leads nowhere",
    "probe ours --quick --data empty": "the folder empty holds no image",
    "finetune ours --data nowhere": "there is no such file or folder",
    "embed ours --data empty --out a.npz": "the folder empty holds no image",
    "export ours --data nowhere --format keras --out a.keras": "there is no such file or folder",
}
PROGRAM = """
import sys
from moco_tf.commands.cli import main
for command in sys.stdin.read().splitlines():
    code = main(command.split())
    if code != 2 or "tensorflow" in sys.modules:
        sys.exit(f"{command}: exit code {code}, TensorFlow imported: {'tensorflow' in sys.modules}")
"""


def test_nothing_of_this_waits_for_tensorflow(tmp_path):
    for name in ("notes.txt", "notes.npz", "there.keras", "there.pth"):
        (tmp_path / name).write_text("notes")
    for name in ("empty", "begun", "notes/deep", "other", "ours/checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("notes/deep/a.txt", "other/a.txt", "ours/checkpoints/step-00000001.safetensors"):
        (tmp_path / name).write_text("notes")
    (tmp_path / "begun/config.json").write_text(json.dumps({}))
    (tmp_path / "ours/config.json").write_text(json.dumps({"data": "photos"}))
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(REFUSED),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    lines = told.stderr.splitlines()
    assert len(lines) == len(REFUSED)
    for line, (command, message) in zip(lines, REFUSED.items(), strict=True):
        assert line.startswith("moco-tf: error: ") and message in line, command
