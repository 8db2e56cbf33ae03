"""`benchmarks/results/keras_backbones.py`: its verdict, and the cheapest of its backbones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
sys.path.insert(0, str(SCRIPTS))

import keras_backbones  # noqa: E402


@pytest.fixture
def pictures(tmp_path):
    """Noise of 32 pixels around ten greys: 16 to learn from and 8 to judge on of each class."""
    random = np.random.default_rng(0)
    for part, count in (("train", 16), ("test", 8)):
        for place in range(10 * count):
            file = tmp_path / "pictures" / part / str(place % 10) / f"{place:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = 20 * (place % 10) + random.integers(0, 70, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return file.parents[2]


@pytest.mark.parametrize("passed", [True, False])
def test_one_failed_check_is_exit_code_one(pictures, tmp_path, monkeypatch, capsys, passed):
    checks = {"a": {"passed": True, "seconds": 1.0}, "b": {"passed": passed, "seconds": 2.0}}
    monkeypatch.setattr(keras_backbones, "_backbone", lambda *_: checks)
    words = ["keras_backbones", "--data", str(pictures), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert keras_backbones.main() == (0 if passed else 1)
    assert capsys.readouterr().out.count("FAILED b") == (0 if passed else 5)
    written = json.loads((tmp_path / "out" / "keras_backbones.json").read_text())
    assert written["passed"] is passed and len(written["backbones"]) == 5


@pytest.mark.long
def test_every_promise_is_kept_with_a_keras_cnn(pictures, tmp_path):
    command = [sys.executable, str(SCRIPTS / "keras_backbones.py"), "--data", str(pictures)]
    command += ["--out", str(tmp_path / "out"), "--only", "cnn", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    found = json.loads(done.stdout)["backbones"]["cnn"]
    assert done.returncode == 0, found
    assert found["killed and resumed"]["killed_after_step"] == 6
    assert found["1 and 2 devices"]["difference"] <= 1e-9
    assert {"knn", "embed", "finetune", "export onnx", "export litert", "model.fit"} <= found.keys()
