"""The options of each command: in named groups, with choices, and the defaults of the recipe."""

import re
import shlex

import pytest
from test_cli import NAMES

from moco_tf.commands.cli import _parser, main
from moco_tf.commands.flags import recipe_among
from moco_tf.commands.parser import GROUPS
from moco_tf.config import RECORDED_FIELDS, Config
from moco_tf.recipes import RECIPES


def help_of(line, capsys, monkeypatch):
    """The help that a command line asks for, on a terminal wide enough for one line an option."""
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(line))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def parsed(line):
    options, unknown = _parser(line.split()).parse_known_args(shlex.split(line))
    assert not unknown
    return vars(options)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_help_shows_the_recipes_own_values(capsys, monkeypatch, recipe):
    text = help_of(f"pretrain {recipe} --help", capsys, monkeypatch)
    assert f"defaults in [] are those of the recipe {recipe}\n" in text
    options = re.split(r"\n  (?=--)", text)
    for name in Config.model_fields.keys() - {"recipe", *RECORDED_FIELDS}:
        flag = "--" + name.replace("_", "-")
        (option,) = (one for one in options if one.startswith(f"{flag} "))
        value = getattr(RECIPES[recipe].config, name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert f"[{shown.lower() if value in (None, True, False) else shown}]" in option


def test_two_temperatures_and_the_choices(capsys, monkeypatch):
    for recipe, temperature in (("moco-v1", "[0.07]"), ("moco-v2", "[0.2]")):
        text = help_of(f"pretrain {recipe} --help", capsys, monkeypatch)
        assert re.search(rf"--temperature X .*softmax \(T\) {re.escape(temperature)}\n", text)
    assert "--augmentation {v1,v2,demo,simclr,v3,satellite,microscopy}" in text
    assert "--symmetric [{true,false}]" in text and "--no-symmetric" in text


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ("pretrain -h", None),
        ("pretrain --help moco-v2", "moco-v2"),
        ("pretrain --epochs 3 moco-v2 --help", "moco-v2"),
        ("pretrain --data shapes moco-v2 --help", "moco-v2"),
        ("pretrain --data=shapes moco-v2 --help", "moco-v2"),
        ("pretrain --json --no-symmetric moco-v2 -h", "moco-v2"),
        ("pretrain --run-dir small --help", None),
    ],
)
def test_the_recipe_is_found_among_the_words(words, recipe):
    assert recipe_among(words.split()) == recipe


def test_without_a_recipe_the_help_says_whose_defaults_it_shows(capsys, monkeypatch):
    text = help_of("estimate --help", capsys, monkeypatch)
    assert (
        "time, memory and disk of a run, and what is off in it; defaults in [] are those of the "
        "recipe shapes, taken where neither a recipe nor --data is given\n"
    ) in text
    assert re.search(r"--queue-size X .*\[512\]\n", text)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_in_a_named_group(name):
    commands = next(action for action in _parser([name])._actions if action.choices)
    groups = {group.title: group._group_actions for group in commands.choices[name]._action_groups}
    assert [option.dest for option in groups["options"]] == ["help"]
    assert all(groups.get(title) is not None for title in GROUPS)
    assert "json" in [option.dest for option in groups["output"]]


def test_every_name_in_a_group_is_an_option():
    commands = next(action for action in _parser()._actions if action.choices)
    flags = {
        flag for command in commands.choices.values() for flag in command._option_string_actions
    }
    names = [name for names in GROUPS.values() for name in names.split()]
    assert len(set(names)) == len(names)
    for name in names:
        assert {f"--{name}".replace("_", "-"), f"--no-{name}"} & flags, name


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pretrain --epochs 3 moco-v2 --seed 1", {"recipe": "moco-v2", "epochs": "3", "seed": "1"}),
        ("pretrain moco-v2 --recompute true", {"recompute": "true"}),
        ("pretrain --recompute --epochs 3 moco-v2", {"recompute": "true", "recipe": "moco-v2"}),
        ("pretrain --no-recompute moco-v2", {"recompute": "false", "recipe": "moco-v2"}),
        ("pretrain --recompute=0 --devices none", {"recompute": "0", "devices": "none"}),
        ("pretrain --epochs 2 --epochs 3", {"epochs": "3"}),
        ("pretrain --first-epoch 1", {"first_epoch": "1"}),
        ("pretrain -- -v9", {"recipe": "-v9"}),
        ("knn --k -3 --temperature -1e-3 run", {"k": -3, "temperature": -1e-3, "folder": "run"}),
        ("knn run --no-baselines --json", {"compare": False, "json": True}),
        ("probe run --lr 30 -10 3 --quick", {"lr": ["30", "-10", "3"], "quick": True}),
        ("probe run --lr 3 --lr 1 --out x", {"lr": ["1"], "run_dir": "x"}),
        ("finetune run --from-scratch", {"from_scratch": "true"}),
        ("convert a --to timm b", {"source": "a", "target": "b", "to": "timm"}),
        ("verify --float64 a b", {"files": ["a", "b"], "float64": True}),
        ("benchmark --epochs 3 step small", {"what": "step", "recipe": "small", "epochs": "3"}),
    ],
)
def test_values_and_positional_arguments_in_any_order(line, expected):
    options = parsed(line)
    assert {name: options[name] for name in expected} == expected


def test_a_flag_that_is_not_given_is_not_among_the_options():
    assert parsed("pretrain").keys() == {
        "recipe", "config", "extend", "workers", "worker_index", "report", "json", "run", "parser",
    }  # fmt: skip
