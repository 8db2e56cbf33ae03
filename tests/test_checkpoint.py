"""Checkpoints: whole or not at all, damage noticed, the one before taken."""

import errno
import os

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.runs import checkpoint_file
from moco_tf.runs.checkpoint import load, load_latest, save
from moco_tf.runs.checkpoint_file import digest


def state_of(step):
    generator = np.random.default_rng(step)
    return {
        "query_encoder/conv1/kernel": generator.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "queue": generator.standard_normal((4, 2)),
        "queue_pointer": np.asarray(step, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def loaded(folder):
    warnings = []
    return load_latest(folder, warn=warnings.append), warnings


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_round_trip_is_exact(tmp_path):
    path = save(tmp_path / "a" / "b", state_of(7), step=7, extra={"loss": 0.1, "knn": None})
    assert path.name == "step-00000007.safetensors"
    (state, step, extra), warnings = loaded(tmp_path / "a" / "b")
    assert_same(state, state_of(7))
    assert (step, extra, warnings) == (7, {"loss": 0.1, "knn": None}, [])


def test_strided_arrays_keep_their_values(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    save(tmp_path, {"a": array}, step=1, extra={})
    np.testing.assert_array_equal(loaded(tmp_path)[0][0]["a"], array)


def test_nothing_there_is_none(tmp_path):
    assert loaded(tmp_path) == (None, [])
    assert loaded(tmp_path / "absent") == (None, [])


def test_keeps_the_newest_and_the_tagged(tmp_path):
    save(tmp_path, state_of(1), step=1, extra={}, tag="best_knn")
    for step in (1, 2, 3, 100_000_000):
        save(tmp_path, state_of(step), step=step, extra={}, keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "best_knn.safetensors",
        "step-00000003.safetensors",
        "step-100000000.safetensors",
    ]
    assert loaded(tmp_path)[0][1] == 100_000_000
    assert load(tmp_path / "best_knn.safetensors")[1] == 1


def test_damaged_one_does_not_count_as_kept(tmp_path):
    first = save(tmp_path, state_of(1), step=1, extra={})
    flip(save(tmp_path, state_of(2), step=2, extra={}), -1)
    third = save(tmp_path, state_of(3), step=3, extra={}, keep=2)
    assert first.exists()
    third.unlink()
    assert loaded(tmp_path)[0][1] == 1


def test_later_steps_are_left_alone(tmp_path):
    later = save(tmp_path, state_of(9), step=9, extra={})
    save(tmp_path, state_of(5), step=5, extra={}, keep=1)
    assert later.exists()


@pytest.mark.parametrize("kept_bytes", [0, 1, 7, 100, -1])
def test_truncated_falls_back_with_a_warning(tmp_path, kept_bytes):
    save(tmp_path, state_of(1), step=1, extra={})
    path = save(tmp_path, state_of(2), step=2, extra={})
    path.write_bytes(path.read_bytes()[:kept_bytes])
    (state, step, _), warnings = loaded(tmp_path)
    assert step == 1
    assert_same(state, state_of(1))
    assert len(warnings) == 1 and str(path) in warnings[0] and "damaged" in warnings[0]


def test_any_flipped_bit_is_noticed_or_harmless(tmp_path):
    save(tmp_path, state_of(1), step=1, extra={"a": 1})
    path = save(tmp_path, state_of(2), step=2, extra={"a": 2})
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        flip(path, position, bit=position % 8)
        (state, step, extra), warnings = loaded(tmp_path)
        assert (step, extra) == ((1, {"a": 1}) if warnings else (2, {"a": 2})), position
        assert_same(state, state_of(step))
        noticed += len(warnings)
        path.write_bytes(whole)
    assert noticed > 0.95 * len(whole)  # the rest: padding of the header, its format entry


def test_a_foreign_file_under_the_name_is_damage(tmp_path):
    (tmp_path / "step-00000001.safetensors").write_text("hello")
    with pytest.raises(InputError, match=r"every checkpoint in .*step-00000001"):
        loaded(tmp_path)


def test_all_damaged_is_an_error(tmp_path):
    for step in (1, 2):
        flip(save(tmp_path, state_of(step), step=step, extra={}), -1)
    with pytest.raises(InputError, match=r"step-00000002\.safetensors, step-00000001"):
        loaded(tmp_path)


def test_load_names_an_absent_and_a_damaged_file(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint .*absent"):
        load(tmp_path / "absent.safetensors")
    path = save(tmp_path, state_of(1), step=1, extra={})
    flip(path, -1)
    with pytest.raises(InputError, match="arrays do not match their digest"):
        load(path)


def test_a_leftover_temporary_file_is_ignored_then_removed(tmp_path):
    path = save(tmp_path, state_of(1), step=1, extra={})
    leftover = tmp_path / ".step-00000002.safetensors.tmp"
    leftover.write_bytes(path.read_bytes()[:50])
    assert loaded(tmp_path)[0][1] == 1 and loaded(tmp_path)[1] == []
    save(tmp_path, state_of(3), step=3, extra={})
    assert not leftover.exists()


def test_full_disk_loses_nothing(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, state_of(step), step=step, extra={})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"no space left to write .*step-00000003"):
            save(tmp_path, state_of(3), step=3, extra={}, keep=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_on_the_way_to_the_disk_deletes_nothing(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, state_of(step), step=step, extra={})
    good = checkpoint_file.to_safetensors
    monkeypatch.setattr(checkpoint_file, "to_safetensors", lambda *args: good(*args)[:-1] + b"?")
    with pytest.raises(InputError, match="came back damaged"):
        save(tmp_path, state_of(3), step=3, extra={}, keep=1)
    assert sorted(path.name[:13] for path in tmp_path.iterdir()) == [
        "step-00000001",
        "step-00000002",
    ]


def test_a_second_name_is_a_link_and_goes_its_own_way(tmp_path):
    best = save(tmp_path, state_of(1), step=1, extra={}, tag="best_knn")
    first = save(tmp_path, state_of(1), step=1, extra={}, same_as=best)
    assert first.samefile(best) and sorted(tmp_path.iterdir()) == [best, first]
    second = save(tmp_path, state_of(2), step=2, extra={}, keep=1)
    assert not first.exists() and load(best)[1] == 1
    save(tmp_path, state_of(2), step=2, extra={}, tag="best_knn", same_as=second)
    assert best.samefile(second)
    assert_same(load(best)[0], state_of(2))


@pytest.mark.parametrize("refused", ["link", "replace"])
def test_a_second_name_is_a_second_file_where_nothing_can_be_linked(tmp_path, monkeypatch, refused):
    first = save(tmp_path, state_of(1), step=1, extra={})
    (tmp_path / ".best_knn.safetensors.tmp").write_bytes(b"of a process that was killed")

    def refuse(*names):
        monkeypatch.undo()
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, refused, refuse)
    best = save(tmp_path, state_of(1), step=1, extra={}, tag="best_knn", same_as=first)
    assert not best.samefile(first)
    assert_same(load(best)[0], state_of(1))
    assert sorted(tmp_path.iterdir()) == [best, first]


def test_what_was_verified_is_read_again_only_if_it_has_changed(tmp_path, monkeypatch):
    was_read, read = [], checkpoint_file.read
    monkeypatch.setattr(
        checkpoint_file, "read", lambda path: was_read.append(path.name) or read(path)
    )
    verified = {}
    for step in (1, 2, 3, 4):
        save(tmp_path, state_of(step), step=step, extra={}, verified=verified)
    assert was_read == [f".step-0000000{step}.safetensors.tmp" for step in (1, 2, 3, 4)]
    flip(tmp_path / "step-00000004.safetensors", -1)
    save(tmp_path, state_of(5), step=5, extra={}, verified=verified)
    assert was_read[4:] == [".step-00000005.safetensors.tmp", "step-00000004.safetensors"]
    steps = sorted(int(path.stem[5:]) for path in tmp_path.iterdir())
    assert steps == [3, 4, 5]  # of step 4 nothing is left but what is damaged


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="keep=0"):
        save(tmp_path, state_of(1), step=1, extra={}, keep=0)


def test_digest_is_of_names_dtypes_shapes_and_values():
    base = {"a": np.arange(4, dtype=np.int32), "b": np.zeros(2, np.float32)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].view(np.float32), "b": base["b"]},
        {"a": base["a"].reshape(2, 2), "b": base["b"]},
        {"a": base["a"] + 1, "b": base["b"]},
        {"a": base["a"], "b": -base["b"]},  # -0.0: other bytes
        {"a": base["a"]},
    ]
    digests = {digest(state) for state in [base, *others]}
    assert len(digests) == 1 + len(others)
    assert digest({"b": base["b"], "a": base["a"]}) == digest(base)  # order of names is nothing
    assert digest({"a": base["a"].astype(">i4"), "b": base["b"]}) == digest(base)
    assert digest({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("step", "extra"),
    [
        ("x", "{}"),
        ("-1", "{}"),
        ("9" * 30, "{}"),
        ("9" * 5000, "{}"),
        ("3", "no JSON"),
        ("3", "[1]"),
        ("3", "[" * 100_000),
    ],
)
def test_right_digests_do_not_make_it_a_checkpoint_of_ours(tmp_path, step, extra):
    arrays = {"a": np.zeros(2, np.float32)}
    metadata = {"step": step, "extra": extra, "sha256": checkpoint_file.digest(arrays)}
    metadata["metadata_sha256"] = checkpoint_file._metadata_digest(metadata)
    path = tmp_path / "step-00000003.safetensors"
    path.write_bytes(checkpoint_file.to_safetensors(arrays, metadata))
    with pytest.raises(checkpoint_file.DamagedError, match="its step"):
        checkpoint_file.read(path)
