"""What an unknown name was meant for: by its meaning first, then by its spelling."""

import pytest

from moco_tf.api.settings import resolve_config
from moco_tf.augmentation import Crop, Jitter, View
from moco_tf.commands.cli import _parser, main
from moco_tf.config import Config
from moco_tf.errors import _CALLED, InputError, near_name


def flags_of(command):
    (commands,) = (a for a in _parser()._actions if hasattr(a, "choices") and a.choices)
    return set(commands.choices[command]._option_string_actions)


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("pretrain", "--lr", "--learning-rate"),
        ("pretrain", "--lr=0.03", "--learning-rate"),
        ("pretrain", "--bs", "--batch-size"),
        ("pretrain", "-b", "--batch-size"),
        ("pretrain", "--K", "--queue-size"),
        ("pretrain", "--k", "--knn-k"),
        ("pretrain", "--T", "--temperature"),
        ("pretrain", "--m", "--key-momentum"),
        ("pretrain", "--wd", "--weight-decay"),
        ("pretrain", "--arch", "--encoder"),
        ("pretrain", "--moco-dim", "--dim"),
        ("pretrain", "--momentum", "--sgd-momentum"),
        ("pretrain", "--out", "--run-dir"),
        ("pretrain", "--bach-size", "--batch-size"),
        ("estimate", "--LR", "--learning-rate"),
        ("probe", "--learning-rate", "--lr"),
        ("probe", "--output", "--out"),
        ("finetune", "--sgd-momentum", "--momentum"),
    ],
)
def test_a_flag_by_another_name_is_told_ours(command, given, meant, capsys):
    with pytest.raises(SystemExit):
        main([command, *(["run"] if command in ("probe", "finetune") else []), given, "1"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("tempreture", "temperature"), ("lr", "learning_rate"), ("K", "queue_size")],
)
def test_a_field_by_another_name_is_told_ours(tmp_path, given, meant):
    file = tmp_path / "c.yaml"
    file.write_text(f"{given}: 1\n")
    with pytest.raises(InputError) as said:
        resolve_config("shapes", str(file), {})
    assert str(said.value) == f"unknown field {given!r}. Did you mean {meant}?"


def test_a_field_like_no_other_lists_them_all(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("colour: 1\n")
    with pytest.raises(InputError, match=r"unknown field 'colour'\. Known fields: accumul.*, xla"):
        resolve_config("shapes", str(file), {})


def test_every_name_of_ours_is_known_somewhere():
    flags = {flag.strip("-").replace("-", "_") for c in ("pretrain", "probe", "finetune")
             for flag in flags_of(c)}  # fmt: skip
    described = {name for part in (View, Crop, Jitter) for name in part.model_fields}
    assert set(_CALLED) <= flags | described


def test_no_name_means_two_fields():
    fields = set(Config.model_fields)
    words = [w for field in fields & set(_CALLED) for w in _CALLED[field].split()]
    assert len(words) == len(set(words))
    for word in set(words) - fields:
        assert near_name(word, fields) in fields
    assert near_name("zzz", fields) is None
