"""What a run or an encoder file gives: its state, and its images where they are found from here."""

import shutil

import numpy as np
import pytest

from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.snapshot import CONVERTED, images_of, load_snapshot, peek, to_bytes


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on photos/, a path of its own folder; the working directory is another."""
    for folder in ("work/photos", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    run_folder.claim("run", Config(data="photos"))
    state = {"query_encoder/kernel": np.zeros(3, np.float32)}
    checkpoint.save(run_folder.checkpoint_folder("run"), state, step=1, extra={})
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "work" / "run"


def data_of(run):
    return load_snapshot(run, warn=pytest.fail).config.data


def test_a_runs_images_are_found_from_another_folder(run, tmp_path, monkeypatch):
    absolute = str(tmp_path / "work" / "photos")
    assert data_of(run) == absolute
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(to_bytes(load_snapshot(run, warn=pytest.fail)))
    assert data_of(file) == absolute
    monkeypatch.chdir(tmp_path / "work")
    assert data_of(run) == "photos"
    shutil.move(tmp_path / "work", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert data_of("run") == "photos"


def test_images_that_are_gone_are_told_with_the_way_out(run, tmp_path):
    (tmp_path / "work" / "photos").rmdir()
    config = load_snapshot(run, warn=pytest.fail).config
    with pytest.raises(InputError) as said:
        images_of(config, None, "../work/run")
    assert str(said.value) == (
        f"../work/run was trained on data='photos', its own path, which leads nowhere from "
        f"{tmp_path}/elsewhere, and not to be found in {tmp_path}/work/photos any more. Give the "
        f"images: --data D."
    )
    old = Config(data="/absent")  # of a version that recorded no other path
    with pytest.raises(InputError, match=r"data='/absent', its own path, which leads nowhere\. "):
        images_of(old, None)
    assert images_of(old, "photos") == "photos"
    assert images_of(Config(), None) == "shapes"
    with pytest.raises(InputError, match=r"the run does not say which images to use\. Give them"):
        images_of(Config().model_copy(update={"recipe": CONVERTED}), None)


def test_a_peek_tells_the_config_and_what_is_wrong(run, tmp_path):
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(to_bytes(load_snapshot(run, warn=pytest.fail)))
    for there in (run, file):
        assert peek(there) == load_snapshot(there, warn=pytest.fail).config
    (checkpoint_file,) = run_folder.checkpoint_folder(run).iterdir()
    text = tmp_path / "notes.txt"
    text.write_text("no encoder")
    run_folder.claim(tmp_path / "new", Config())
    for there in (tmp_path / "absent", checkpoint_file, text, tmp_path / "new"):
        with pytest.raises(InputError) as told:
            load_snapshot(there, warn=pytest.fail)
        with pytest.raises(InputError) as early:
            peek(there)
        assert str(early.value) == str(told.value)
