"""The package as it is released: built, and installed where there is no checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT

import moco_tf

pytestmark = pytest.mark.slow
EXAMPLE = """
import math, moco_tf, numpy
from moco_tf.functional import info_nce
assert moco_tf.__file__.startswith({prefix!r}), moco_tf.__file__
queue_size = moco_tf.RECIPES["moco-v2"].config.queue_size
loss = float(info_nce(numpy.zeros((1, 1 + queue_size), numpy.float32))[0])  # of guessing: log(1+K)
print(moco_tf.__version__, queue_size, abs(loss - math.log(1 + queue_size)) < 1e-4)
"""


def run(*words, cwd, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr[-2000:])
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)
    return folder


def test_the_wheel_holds_the_package_its_types_and_its_pages(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        told = archive.read(metadata).decode()
    sources = ROOT / "src" / "moco_tf"
    wanted = {
        f"moco_tf/{path.relative_to(sources)}"
        for path in sources.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted | {"moco_tf/py.typed"} == {name for name in names if name[:8] == "moco_tf/"}
    assert f"\nVersion: {moco_tf.__version__}\n" in told
    assert "Classifier: Typing :: Typed" in told


def test_the_source_archive_holds_what_the_tests_need(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "tests/conftest.py", "docs/data.md"} <= names


def test_the_wheel_alone_runs_in_a_fresh_environment(built, tmp_path):
    """With the dependencies that its metadata names, installed anew, and an empty folder."""
    (wheel,) = built.glob("*.whl")
    uv, place = [sys.executable, "-m", "uv"], tmp_path / "environment"
    run(*uv, "venv", "--quiet", "--python", sys.executable, place, cwd=tmp_path)
    python, empty = place / "bin" / "python", tmp_path / "empty"
    empty.mkdir()
    run(*uv, "pip", "install", "--quiet", "--python", python, wheel, cwd=empty)
    command = place / "bin" / "moco-tf"
    assert "pretrain" in run(command, "--help", cwd=empty)
    assert run(python, "-c", EXAMPLE.format(prefix=str(place)), cwd=empty) == (
        f"{moco_tf.__version__} 65536 True\n"
    )
    shutil.rmtree(place)  # 2 GB, where the packages are no hard links
