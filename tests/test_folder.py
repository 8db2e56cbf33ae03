"""The run folder: claimed once, locked, continued only with the same configuration."""

import contextlib
import errno
import json
import multiprocessing
import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest

from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
from moco_tf.files.atomic import temporary_name, write_atomically, write_error
from moco_tf.files.digests import read_json, write_json
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import read_config
from moco_tf.runs.folder import claim, locked

CONFIG = Config(batch_size=64, milestones=(3, 5), knn_k=7)


def with_fields(**changes):
    return Config.model_validate(CONFIG.model_dump() | changes)


def test_new_folder_then_resumed(tmp_path):
    folder = tmp_path / "runs" / "a"
    assert claim(folder, CONFIG) is False
    assert read_config(folder) == CONFIG
    assert claim(folder, CONFIG) is True
    found = read_json(folder / "versions.json")
    assert found["python"] == platform.python_version() and found["numpy"] == np.__version__
    assert set(found) == {"python", "tensorflow", "keras", "numpy", "moco-tf", "hardware"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "versions.json"]


def test_what_differs_in_a_description_is_named_alone(tmp_path):
    there, now = ({"gray": 0.2, "jitter": {"hue": hue}} for hue in (0.1, 0.2))
    claim(tmp_path, with_fields(augmentation=there))
    with pytest.raises(InputError, match=r": augmentation\.jitter\.hue \(0\.1 there, 0\.2 now\)\."):
        claim(tmp_path, with_fields(augmentation=now))
    with pytest.raises(InputError, match=r": augmentation \(\{.* there, v2 now\)\."):
        claim(tmp_path, with_fields(augmentation="v2"))


def test_a_folder_from_before_functions_could_make_views_is_continued(tmp_path):
    claim(tmp_path, CONFIG)
    written = read_json(tmp_path / "config.json")
    del written["augment_function"]
    write_json(tmp_path / "config.json", written)
    assert read_config(tmp_path) == CONFIG
    assert claim(tmp_path, CONFIG) is True


def test_fields_of_the_machine_may_change(tmp_path):
    claim(tmp_path, CONFIG)
    moved = with_fields(run_dir="elsewhere", devices=2, recompute=True, max_steps=9, log_every=3)
    assert claim(tmp_path, moved) is True
    assert read_config(tmp_path) == CONFIG


def test_the_same_images_by_another_path_are_no_other_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("photos", "shapes", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("photos")
    claim(tmp_path / "run", with_fields(data="photos"))
    for spelt in (
        "photos/",
        "./photos",
        str(tmp_path / "photos"),
        "~/photos",
        "link",
        "x/../photos",
    ):
        assert claim(tmp_path / "run", with_fields(data=spelt)) is True, spelt
    with pytest.raises(InputError, match=r"data \(photos there, others now\)"):
        claim(tmp_path / "run", with_fields(data="others"))
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert claim(tmp_path / "run", with_fields(data="moved")) is True
    claim(tmp_path / "drawn", with_fields(data="shapes"))
    with pytest.raises(InputError, match=r"data \(shapes there, \./shapes now\)"):
        claim(tmp_path / "drawn", with_fields(data="./shapes"))


def test_where_the_images_are_is_recorded_and_found_from_elsewhere(tmp_path, monkeypatch):
    run, elsewhere = tmp_path / "work" / "run", tmp_path / "elsewhere"
    for folder in (tmp_path / "work" / "photos", elsewhere / "others"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    claim(run, with_fields(data="photos"))
    found = read_config(run)
    assert (found.data, found.data_path) == ("photos", str(tmp_path / "work" / "photos"))
    monkeypatch.chdir(elsewhere)
    assert claim(run, with_fields(data=found.data_path)) is True
    with pytest.raises(InputError, match=r"data \(photos there, others now\)"):
        claim(run, with_fields(data="others"))
    (tmp_path / "work" / "photos").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert claim(run, with_fields(data="moved")) is True
    found = read_config(run)
    assert (found.data, found.data_path) == ("photos", str(tmp_path / "moved"))


def test_a_pack_in_a_store_is_nowhere_on_this_machine(tmp_path):
    here, run = tmp_path / "pack", tmp_path / "run"
    here.mkdir()
    claim(run, with_fields(data=str(here)))
    with pytest.raises(InputError, match=r"data \(.*pack there, s3://bucket/pack now\)"):
        claim(run, with_fields(data="s3://bucket/pack"))  # which may be another one
    here.rmdir()  # as on another machine
    assert claim(run, with_fields(data="s3://bucket/pack"))
    stored = tmp_path / "stored"
    claim(stored, with_fields(data="s3://bucket/pack"))
    assert read_config(stored).data_path is None
    assert claim(stored, with_fields(data="s3://bucket/pack"))
    assert claim(stored, with_fields(data=str(tmp_path / "copied")))
    with pytest.raises(InputError, match="cifar10 now"):
        claim(stored, with_fields(data="cifar10"))


def test_the_same_architecture_in_another_file_is_no_other_config(tmp_path):
    began = with_fields(encoder="a.keras", architecture='{"layers":1}')
    claim(tmp_path, began)
    for name in ("moved/b.keras", "model"):
        assert claim(tmp_path, began.model_copy(update={"encoder": name})) is True
        assert run_folder.check(tmp_path, with_fields(encoder=name)) == began  # not read yet
    assert read_config(tmp_path) == began
    with pytest.raises(InputError, match=r"encoder \(a\.keras there, b\.keras now\), archit"):
        claim(tmp_path, with_fields(encoder="b.keras", architecture='{"layers":2}'))
    with pytest.raises(InputError, match=r"encoder \(a\.keras there, resnet18 now\)\."):
        claim(tmp_path, with_fields(encoder="resnet18"))
    claim(tmp_path / "resnet", with_fields(encoder="resnet18"))
    with pytest.raises(InputError, match=r"encoder \(resnet18 there, b\.keras now\)"):
        claim(tmp_path / "resnet", with_fields(encoder="b.keras"))


def test_what_only_watches_a_run_may_change_but_not_what_its_accuracies_mean(tmp_path):
    claim(tmp_path, CONFIG)
    assert claim(tmp_path, with_fields(knn_every=5)) is True
    with pytest.raises(InputError, match=r"knn_k \(7 there, 20 now\)"):
        claim(tmp_path, with_fields(knn_k=20))


def test_another_config_is_refused_field_by_field(tmp_path):
    claim(tmp_path, CONFIG)
    with pytest.raises(InputError) as caught:
        claim(tmp_path, with_fields(batch_size=128, milestones=(3,), max_steps=5))
    message = str(caught.value)
    assert "batch_size (64 there, 128 now)" in message
    assert "milestones ([3, 5] there, [3] now)" in message
    assert "max_steps" not in message and "\n" not in message
    assert message.endswith(f"to continue it: moco-tf pretrain --run-dir {tmp_path}.")
    assert read_config(tmp_path) == CONFIG


def test_more_epochs_are_recorded_and_all_else_stays(tmp_path):
    began = with_fields(epochs=5, init="a", init_sha256="0" * 64, max_steps=9)
    claim(tmp_path, began)
    more = {"epochs": 8, "init": "a", "earlier_schedules": ((6, 5),)}
    assert claim(tmp_path, with_fields(**more)) is True
    found = began.model_copy(update={"epochs": 8, "earlier_schedules": ((6, 5),)})
    assert read_config(tmp_path) == found
    before = (tmp_path / "config.json").read_bytes()
    now = with_fields(epochs=8, init="a")  # does not know what the folder has recorded
    assert claim(tmp_path, now) is True
    assert (tmp_path / "config.json").read_bytes() == before
    assert run_folder.recorded(run_folder.check(tmp_path, now), now) == now.model_copy(
        update={"init_sha256": "0" * 64, "earlier_schedules": ((6, 5),)}
    )
    with pytest.raises(InputError, match=r": epochs \(8 there, 5 now\)\. Use"):
        claim(tmp_path, began)
    with pytest.raises(InputError, match="init_sha256"):
        claim(tmp_path, now.model_copy(update={"init_sha256": "1" * 64}))


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for attempt in (lambda: claim(tmp_path, CONFIG), lambda: locked(tmp_path).__enter__()):
        with pytest.raises(InputError, match=r"not a run folder.*thesis\.tex.*--run-dir"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(InputError, match="is a file"):
        claim(path, CONFIG)
    with pytest.raises(InputError, match="cannot create"), locked(path / "under"):
        pass


def test_remains_of_a_killed_start_are_no_obstacle(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    (tmp_path / ".config.json.tmp").write_text('{"rec')
    assert claim(tmp_path, CONFIG) is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a run folder"),
        ("{", "not the config of a run"),
        ("[]", "not the config of a run"),
        ('{"batch_size": "many"}', "batch_size"),
        ('{"colour": 3}', "colour"),
        ('{"batch_size": 33}', "multiple of group_size"),
    ],
)
def test_read_config_says_what_is_wrong(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_that_does_not_fit_its_digest_is_refused(tmp_path):
    claim(tmp_path, CONFIG)
    path = tmp_path / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"batch_size": 64', '"batch_size": 96'))
    for start in (lambda: claim(tmp_path, CONFIG), lambda: read_config(tmp_path)):
        with pytest.raises(
            InputError, match=r"config\.json .*digest.*Restore.*sha256, out"
        ) as caught:
            start()
        assert "\n" not in str(caught.value)
    # What the message advises those who meant it, and what a run of an older version holds.
    path.write_text(re.sub(r',\s*"sha256": ".*"', "", path.read_text()))
    assert read_config(tmp_path) == with_fields(batch_size=96)


def test_the_process_that_trains_is_told_without_a_lock(tmp_path):
    assert run_folder.holder(tmp_path) is None
    with locked(tmp_path):
        assert run_folder.holder(tmp_path) == os.getpid()
    assert run_folder.holder(tmp_path) is None or not os.path.exists("/proc/locks")
    for text in ("", "x", "0\n", "99999999999\n"):
        (tmp_path / ".lock").write_text(text)
        assert run_folder.holder(tmp_path) is None


def test_write_json_is_whole_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    def refuse(_):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        write_atomically(path, b"{}", verify=refuse)
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path / "absent" / "a.json", {"a": 1})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    temporary = temporary_name(path)
    temporary.symlink_to("/dev/full")  # what is written to it gets the kernel's own ENOSPC
    with pytest.raises(InputError, match=re.escape(f"no space left to write {path}")):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1} and not temporary.is_symlink()


def test_a_refused_start_leaves_no_folder(tmp_path):
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            folder.mkdir()
        with pytest.raises(InputError, match="no data"), locked(folder):
            raise InputError("no data")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with locked(tmp_path / "new"):
        claim(tmp_path / "new", CONFIG)
    assert (tmp_path / "new" / "config.json").exists()


def _try_to_lock(folder, answers):
    try:
        with locked(folder):
            answers.put("held")
    except InputError as error:
        answers.put(str(error))


def test_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()

    def other():
        process = context.Process(target=_try_to_lock, args=(tmp_path, answers))
        process.start()
        answer = answers.get(timeout=60)
        process.join()
        return answer

    with locked(tmp_path):
        assert claim(tmp_path, CONFIG) is False
        assert re.search(r"in use: process \d+ is training", other())
    assert other() == "held"


@pytest.mark.parametrize("name", [".lock", ".config.json.tmp", ".versions.json.tmp"])
def test_a_link_in_a_folder_of_anothers_is_not_written_through(tmp_path, name):
    """A run folder that somebody gave away may hold links to files of who uses it."""
    outside, run = tmp_path / "mine.txt", tmp_path / "run"
    outside.write_text("mine")
    run.mkdir()
    (run / name).symlink_to(outside)
    with contextlib.suppress(InputError), run_folder.locked(run):
        run_folder.claim(run, CONFIG)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_a_folder_that_is_a_link_is_refused(tmp_path, name):
    outside, run = tmp_path / "mine", tmp_path / "run"
    outside.mkdir()
    claim(run, CONFIG)
    (run / name).symlink_to(outside)
    before = (run / "versions.json").stat().st_mtime_ns
    with pytest.raises(InputError, match=rf"{name} is a link.*Put the folder"):
        claim(run, CONFIG)
    assert (run / "versions.json").stat().st_mtime_ns == before
    (run / name).unlink()
    assert claim(run, CONFIG) is True


def test_what_cannot_be_taken_away_hides_no_error(tmp_path):
    """As on NFS, where the open lock is still there under another name after its removal."""
    with pytest.raises(InputError, match="no data"), locked(tmp_path / "new"):
        (tmp_path / "new" / "kept").write_text("")
        raise InputError("no data")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept"]


def test_a_config_that_is_too_deep_or_too_long_a_number_is_one_line(tmp_path):
    for text in ("[" * 100_000, '{"epochs": ' + "9" * 5000 + "}", '{"epochs": 1' + "0" * 30 + "}"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="is not the config of a run") as refused:
            read_config(tmp_path)
        assert str(refused.value).isprintable()


def test_a_reader_who_left_is_no_full_disk():
    left = BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert write_error(Path("x.npy"), 0, left) is left
    other = write_error(Path("x.npy"), 0, PermissionError(errno.EACCES, "Permission denied"))
    assert str(other) == "cannot write x.npy: Permission denied."


def test_a_field_of_earlier_versions_is_left_out_and_refused_where_it_was_on(tmp_path):
    path = tmp_path / "config.json"
    for value in (False, True):
        fields = Config().model_dump(mode="json") | {"mask_same_image": value}
        path.write_text(json.dumps(fields))
        if value:
            with pytest.raises(InputError, match=r"config.json: mask_same_image is no longer"):
                read_config(tmp_path)
            with pytest.raises(InputError, match="no longer offered"):
                make_config(Config(), {"mask_same_image": "true"})
        else:
            assert read_config(tmp_path) == Config()
            assert make_config(Config(), {"mask_same_image": False}) == Config()
