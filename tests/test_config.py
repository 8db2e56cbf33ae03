"""The config: ranges, text, and what must fit together. The linear rule in closed form."""

import pytest
from pydantic import ValidationError

from moco_tf.config import Config, make_config, short_repr
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.runs.config_file import read_config

SHAPES = RECIPES["shapes"].config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", "96.5", "batch_size='96.5'"),
        ("temperature", "0", "temperature='0'"),
        ("key_momentum", "1.01", "key_momentum='1.01'"),
        ("encoder", "resnet19", "encoder='resnet19'"),
        ("queue_size", "0", "queue_size='0'"),
        ("symmetric", "perhaps", "symmetric='perhaps'"),
        ("xla", "perhaps", "xla='perhaps'"),
        ("augmentation", False, "augmentation=False"),
        ("milestones", "1,two", "milestones: "),
        ("learning_rate", "inf", "learning_rate='inf'"),
        ("epochs", True, "epochs=True"),
        ("data", "", "data=''"),
        ("run_dir", "", "run_dir=''"),
        ("tempreture", "1", "tempreture"),
        ("image_size", "16", None),
    ],
)
def test_a_value_is_refused_by_name_in_one_line(name, value, message):
    if message is None:
        assert make_config(SHAPES, {name: value}).image_size == 16
        with pytest.raises(InputError, match="image_size=16"):
            make_config(RECIPES["moco-v1"].config, {name: value})
        return
    with pytest.raises(InputError) as caught:
        make_config(SHAPES, {name: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_becomes_the_fields_type():
    config = make_config(
        SHAPES, {"milestones": "3, 5", "max_steps": "none", "symmetric": "true", "devices": "2"}
    )
    assert (config.milestones, config.max_steps, config.symmetric, config.devices) == (
        (3, 5),
        None,
        True,
        2,
    )


@pytest.mark.parametrize(
    ("given", "kept"), [("on", "on"), (True, "on"), (False, "off"), ("auto", "auto")]
)
def test_xla_is_on_off_or_auto_also_as_yaml_reads_it(given, kept):
    assert make_config(SHAPES, {"xla": given}).xla == kept


@pytest.mark.parametrize(("batch", "rate"), [(256, 0.03), (512, 0.06), (64, 0.0075)])
def test_the_rate_scales_with_the_batch(batch, rate):
    config = make_config(RECIPES["moco-v1"].config, {"batch_size": batch})
    assert config.scaled_learning_rate == pytest.approx(rate)
    absolute = make_config(config, {"lr_scaling": "absolute"})
    assert absolute.scaled_learning_rate == 0.03


def test_batch_groups_and_devices_must_fit():
    with pytest.raises(InputError, match=r"batch_size=72, group_size=16\. Use --batch-size 64, or"):
        make_config(SHAPES, {"batch_size": 72})
    with pytest.raises(InputError, match=r"devices=3\. Use --devices 2\.$"):
        make_config(SHAPES, {"devices": 3})


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError):
        SHAPES.epochs = 3
    assert Config.model_validate_json(SHAPES.model_dump_json()) == SHAPES


@pytest.mark.parametrize("value", [2**31, 10**18, -(10**18), (1, 2**31), 16**5000], ids=range(5))
def test_numbers_that_no_run_has_are_refused_at_once(value):
    """The divisors of 10**18 took forever, and a number of 6000 digits cannot be printed."""
    with pytest.raises(
        InputError, match=r"milestones must be at most 2147483647; received"
    ) as said:
        make_config(SHAPES, {"milestones": value})
    assert len(str(said.value)) < 300
    with pytest.raises(InputError):
        make_config(SHAPES, {"batch_size": value, "devices": 7})


def test_a_config_names_a_recipe_only_by_coming_from_it(tmp_path):
    with pytest.raises(ValidationError, match=r"RECIPES\['small'\]\.config, changed with"):
        Config(recipe="small", data="photos")  # MoCo v1's settings, for the others are not given
    with pytest.raises(InputError, match=r"recipe='small' would be a name.*RECIPES\['small'\]"):
        make_config(SHAPES, {"recipe": "small"})
    assert Config(data="photos").recipe == "custom"
    small = RECIPES["small"].config
    assert make_config(small, {"recipe": "small", "epochs": "3"}).recipe == "small"
    assert Config.model_validate(small.model_dump()) == small  # whole, it is the recipe's own
    (tmp_path / "config.json").write_text('{"recipe": "small", "queue_size": 512}')
    old = read_config(tmp_path)  # of a version with fewer fields
    assert (old.recipe, old.queue_size, old.temperature) == ("small", 512, 0.07)


def test_a_value_is_shown_shortened():
    nested = ["x"]
    for _ in range(40):
        nested = [nested] * 9
    assert [short_repr(value) for value in (3, "a", None, (1, 2))] == ["3", "'a'", "None", "(1, 2)"]
    assert len(short_repr(nested)) < 5000 and len(short_repr("x" * 10**6)) == 200
    assert short_repr(16**5000) == "a int too long to be shown"
