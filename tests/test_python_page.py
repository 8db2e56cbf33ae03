"""What README and docs/python.md show of Python runs as written; so do the notebooks."""

import ast
import os
import re
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

import moco_tf.data.sources

pytestmark = pytest.mark.slow
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize(
    "page", ["README.md", pytest.param("docs/python.md", marks=pytest.mark.long)]
)
def test_the_python_on_the_page_runs(page, tmp_path, monkeypatch, capsys):
    """With fewer shapes, and all blocks of a page one after another."""
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TRAIN", 512)
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TEST", 128)
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        exec(block, scope)
    assert (tmp_path / "encoder.keras").stat().st_size > 0
    assert scope["run"].summary["step"] == 16
    printed = capsys.readouterr().out
    if page == "docs/python.md":
        assert moco_tf.load_run("runs/short").summary["step"] == 20
        assert "batch_size=100" in printed


def executed(name, folder):
    """The notebook after all of its cells have run in the folder."""
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    ).execute()
    return notebook


def test_the_notebook_runs_as_written(tmp_path):
    first = executed("first_run.ipynb", tmp_path).cells[1].outputs
    lines = [one["data"]["text/plain"] for one in first if one.output_type == "display_data"]
    assert len(lines) == 1 and lines[0].startswith("step 64/64  epoch 1  loss ")
    assert not any("step 10/64" in one.get("text", "") for one in first)
    assert "\x1b" not in "".join(one.get("text", "") for one in first)
    assert first[-1]["data"]["text/plain"] == "Run('runs/notebook')"


def test_the_notebook_of_your_own_pictures_runs_as_written(tmp_path, monkeypatch):
    """Its `!moco-tf` is the package under test."""
    command = tmp_path / "bin" / "moco-tf"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moco_tf "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    cells = executed("own_pictures.ipynb", tmp_path).cells
    said = ["".join(one.get("text", "") for one in cell.get("outputs", ())) for cell in cells]
    assert "wrote preview.html" in said[3]
    results = [
        one["data"]["text/plain"]
        for cell in cells
        for one in cell.get("outputs", ())
        if one.output_type == "execute_result"
    ]
    assert results[0] == "Run('runs/mine')"
    assert set(ast.literal_eval(results[1])) == {"view_retrieval", "view_retrieval_untrained"}
    assert len(ast.literal_eval(results[3])) == 3
    assert results[4:] == ["32", "True"]
    assert (tmp_path / "encoder.keras").stat().st_size > 0
    with np.load(tmp_path / "features.npz") as written:
        assert written["features"].shape == (64, 32)


def test_an_interrupt_of_the_kernel_saves_and_returns_the_run(data, tmp_path):
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(cwd=str(tmp_path))
    try:
        fields = "width=4, image_size=16, batch_size=16, group_size=8, queue_size=64, epochs=10**6"
        trained = client.execute(
            f"import moco_tf\nrun = moco_tf.pretrain('shapes', data={data!r}, knn_every=0, "
            f"checkpoint_every=10**6, log_every=1, {fields})"
        )
        deadline, shown = time.monotonic() + 300, ""
        while "step 3/" not in shown and time.monotonic() < deadline:
            content = client.get_iopub_msg(timeout=300)["content"]
            shown = content.get("data", {}).get("text/plain", "")
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=300)
        while reply["parent_header"]["msg_id"] != trained:  # one to the start of the kernel
            reply = client.get_shell_msg(timeout=300)
        assert reply["content"]["status"] == "ok"
        asked = "told = run.summary['stopped_early'], run.summary['step'] >= 3"
        told = {"told": "told"}
        reply = client.execute(asked, user_expressions=told, reply=True, timeout=300)
        assert reply["content"]["user_expressions"]["told"]["data"]["text/plain"] == "(True, True)"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
