"""What README and docs tell people to type: every command parses, the chain runs as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import moco_tf.data.sources
from moco_tf.commands.cli import _parser, main

README = ROOT / "README.md"
PAGES = [
    page
    for pages in ("*", "docs/*", "benchmarks/records/*")
    for page in sorted(ROOT.glob(f"{pages}.md"))
]
CHAIN = re.search(r"## The whole chain\n.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)


def commands(page):
    """The moco-tf commands of the page's shell blocks, as lists of words."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words[:1] == ["moco-tf"] and not any("..." in word for word in words):
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_the_page_parses(page):
    for words in commands(page):
        options, unknown = _parser().parse_known_args(words)
        assert not unknown, words
        assert options.run


def test_there_are_commands_on_the_pages():
    assert sum(len(list(commands(page))) for page in PAGES) > 20


def run_line(line, folder):
    """As bash runs it, where `moco-tf` is the one under test."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, (line, done.stderr.decode()[-2000:])
    return done.stdout.decode()


def chain():
    """The commands of the chain, one a line, but for the server, which does not end."""
    for line in CHAIN[1].replace("\\\n", " ").splitlines():
        if line and not line.startswith("tensorboard"):
            yield shlex.join(shlex.split(line, comments=True))


def check_files(folder):
    for name in ("summary.json", "probe/summary.json", "finetune-0.1/encoder.safetensors"):
        assert (folder / "runs" / "shapes" / name).stat().st_size > 0
    for line in CHAIN[1].splitlines():
        words = shlex.split(line, comments=True)
        for flag in ("--out", "--projector"):
            if flag in words:
                assert (folder / words[words.index(flag) + 1]).exists()


@pytest.mark.slow
def test_the_chain_runs_after_a_short_pre_training(tmp_path, monkeypatch):
    """Every command as written, but for fewer steps, epochs and shapes."""
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TRAIN", 512)
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TEST", 128)
    monkeypatch.chdir(tmp_path)
    for line in chain():
        short = line.replace("moco-tf pretrain", "moco-tf pretrain --max-steps 2 --knn-every 0")
        assert main(shlex.split(re.sub(r"--epochs \d+", "--epochs 1", short))[1:]) == 0, line
    check_files(tmp_path)


@pytest.mark.long
def test_the_chain_runs_as_written(tmp_path):
    said = {line: run_line(line, tmp_path) for line in chain()}
    check_files(tmp_path)
    tuned, scratch = (
        float(re.search(r"top-1 ([\d.]+)%", text)[1])
        for line, text in said.items()
        if line.startswith("moco-tf finetune")
    )
    assert tuned > scratch + 5
