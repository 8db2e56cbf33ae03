"""Augmentation as data: the named values, what is refused, and what a config makes of it."""

import re
from pathlib import Path

import pytest
import yaml

from moco_tf.api.settings import resolve_config
from moco_tf.augmentation import NAMED, Blur, Crop, Jitter, Solarize, TwoViews, View
from moco_tf.augmentation.named import NAMES, view_pair
from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES

SHAPES = RECIPES["shapes"].config


def pair(name, area=0.2, strength=1.0):
    return view_pair(name, area, strength)


def test_the_named_values_are_those_of_the_papers_and_the_official_code():
    """Probabilities and strengths in the order of the table of each recipe."""
    strengths = {
        "v1": (1.0, 0.4, 0.4, 0.4, 0.4),
        "v2": (0.8, 0.4, 0.4, 0.4, 0.1),
        "demo": (0.8, 0.4, 0.4, 0.4, 0.1),
        "simclr": (0.8, 0.8, 0.8, 0.8, 0.2),
        "v3": (0.8, 0.4, 0.4, 0.2, 0.1),
    }
    operations = {
        "v1": ["gray", "jitter"],
        "v2": ["jitter", "gray", "blur"],
        "demo": ["jitter", "gray"],
        "simclr": ["jitter", "gray", "blur"],
        "v3": ["jitter", "gray", "blur"],
    }
    for name, expected in strengths.items():
        first, second = pair(name)
        assert (first.jitter.probability, *first.jitter.strengths) == expected
        assert first.operations == operations[name]
        assert (first.gray, first.horizontal_flip, first.vertical_flip) == (0.2, 0.5, 0.0)
        assert (first == second) == (name != "v3")
    first, second = pair("v3", 0.08)
    assert second.operations == ["jitter", "gray", "blur", "solarize"]
    assert (first.blur.probability, second.blur.probability) == (1.0, 0.1)
    assert second.solarize == Solarize(probability=0.2, threshold=128)
    assert first.crop.min_area == second.crop.min_area == 0.08
    assert pair("simclr", strength=0.5)[0].jitter.strengths == (0.4, 0.4, 0.4, 0.1)
    assert set(NAMED) == set(NAMES)


def test_a_name_stays_a_name_and_a_description_comes_back_from_the_file():
    own = View(gray=0.3, jitter=Jitter(hue=0.02), crop=Crop(min_area=0.1), quarter_turns=True)
    both = TwoViews(view1=own, view2="v2")
    for value in ("v3", own, both):
        config = make_config(SHAPES, {"augmentation": value})
        assert Config.model_validate_json(config.model_dump_json()) == config
        assert config.augmentation == value
        assert make_config(config, {"epochs": 3}).augmentation == value
    assert make_config(SHAPES, {"augmentation": (own, "v2")}).augmentation == both
    assert make_config(SHAPES, {"augmentation": own.model_dump()}).augmentation == own
    assert '"augmentation":"v3"' in make_config(SHAPES, {"augmentation": "v3"}).model_dump_json()


def test_the_configs_area_is_that_of_crops_without_one():
    config = make_config(SHAPES, {"crop_min_area": 0.3, "augmentation": "v3"})
    assert [view.crop.min_area for view in config.views] == [0.3, 0.3]
    own = {"view1": {"crop": {"min_area": 0.1}}, "view2": {}}
    config = make_config(SHAPES, {"augmentation": own, "crop_min_area": 0.3})
    assert [view.crop.min_area for view in config.views] == [0.1, 0.3]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"jiter": {}}, "augmentation: unknown name 'jiter'. Did you mean jitter?"),
        ({"hflip": 0.5}, "unknown name 'hflip'. Did you mean horizontal_flip?"),
        ({"jitter": {"p": 0.5}}, "unknown name 'p'. Did you mean probability?"),
        ({"jitter": {"hues": 0.1}}, "augmentation.jitter: unknown name 'hues'. Did you mean hue?"),
        ({"jitter": {"probability": 1.5}}, "received augmentation.jitter.probability=1.5."),
        ({"jitter": {"hue": 0.6}}, "less than or equal to 0.5; received augmentation.jitter.hue"),
        ({"gray": -0.1}, "augmentation.gray: Input should be greater than or equal to 0"),
        ({"gray": True}, "augmentation.gray: must be a number, not yes or no; received true."),
        ({"blur": {"sigma": [2, 0.1]}}, "sigma must have its smaller number first; received [2.0"),
        ({"blur": {"sigma": [0, 33]}}, "less than or equal to 32"),
        ({"crop": {"min_area": 0.5, "max_area": 0.2}}, "min_area, max_area must have its smaller"),
        ({"crop": {"aspect": [2, 1]}}, "aspect must have its smaller number first"),
        ({"crop": {"interpolation": "box"}}, "'bilinear' or 'bicubic'"),
        ({"crop": {"max_area": 0.3}}, "received crop_min_area=0.4. Give it a crop.min_area"),
        ({"solarize": {"threshold": 300}}, "received augmentation.solarize.threshold=300"),
        ({"order": ["jitter", "jitter"]}, "order names jitter twice"),
        ({"order": ["jitter", "blr"]}, "'gray', 'blur' or 'solarize'; received augmentation.order"),
        ({"gray": 0.2, "order": ["jitter"]}, "order leaves gray out, which is given."),
        ({"view1": "v2"}, "augmentation.view2: Field required"),
        (["v1", "simclr"], "must be of one family; received torchvision and simclr."),
        (["v1", "v3"], "augmentation.view2: must be a description or one of v1, v2, demo, simclr"),
        (["v1"], "or a description; received augmentation=['v1']"),
        ("v22", "received augmentation='v22'. Did you mean v2?"),
        (3, "or a description; received augmentation=3."),
        ({}, "augmentation is empty. Describe a view"),
    ],
)
def test_a_bad_description_is_refused_in_one_line(value, message):
    with pytest.raises(InputError) as caught:
        make_config(SHAPES, {"augmentation": value})
    assert message in str(caught.value)
    assert "Value error" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": {"crop": {"min_area": 0.1}}, "crop_min_area": 0.3},
        {"augmentation": {"gray": 0.1}, "color_strength": 0.5},
    ],
)
def test_a_field_that_the_description_decides_is_refused(changes):
    name = list(changes)[1]
    with pytest.raises(InputError, match=f"{name}={changes[name]} has no effect"):
        make_config(SHAPES, changes)
    config = make_config(SHAPES, {"augmentation": changes["augmentation"]})
    assert make_config(config, config.model_dump()) == config  # a whole config gives all fields


def test_a_description_of_simclrs_family_stays_on_the_host():
    own = View(family="simclr", blur=Blur())
    with pytest.raises(InputError, match="augment_on=device"):
        make_config(SHAPES, {"augmentation": own, "augment_on": "device"})


def test_a_yaml_file_gives_a_description(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("jitter: {probability: 0.5, hue: 0.02}\nvertical_flip: 0.5\n")
    own = View(jitter=Jitter(probability=0.5, hue=0.02), vertical_flip=0.5)
    assert resolve_config("shapes", None, {"augmentation": str(file)}).augmentation == own
    whole = tmp_path / "config.yaml"
    whole.write_text("augmentation:\n  view1: v2\n  view2:\n    vertical_flip: 0.5\n")
    both = TwoViews(view1="v2", view2=View(vertical_flip=0.5))
    assert resolve_config("shapes", str(whole), {}).augmentation == both
    whole.write_text(f"augmentation: {file}\n")
    assert resolve_config("shapes", str(whole), {}).augmentation == own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "mine.yaml could not be read: No such file"),
        ("- v1\n- v2\n", "mine.yaml must hold 'field: value' lines."),
        ("# gray: 0.1\n", "augmentation is empty. .* cropped alone are {crop: {}}"),
        ("gray: 0.1\ngray: 0.2\n", "mine.yaml gives the field 'gray' twice."),
        ("blur: {sigma: [2, 1]}\n", "augmentation.blur: sigma must have its smaller number first"),
    ],
)
def test_a_bad_yaml_file_is_refused_in_one_line(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        resolve_config("shapes", None, {"augmentation": str(file)})


DOCS = (Path(__file__).parent.parent / "docs" / "augmentation.md").read_text(encoding="utf-8")


def test_what_the_page_shows_is_taken():
    own, differing = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOCS, re.S))
    config = make_config(RECIPES["moco-v2"].config, {"augmentation": own})
    assert config.augmentation.jitter == Jitter(probability=0.8, brightness=0.2, contrast=0.2)
    assert make_config(config, differing).augmentation.view1 == NAMED["v2"]
    names = {"NAMED": NAMED}
    exec(re.findall(r"```python\n(.*?)```", DOCS, re.S)[0], names)
    assert names["config"].views[1].operations == ["gray"]
    for name in View.model_fields:
        assert f"`{name}`" in DOCS


def test_the_pages_table_is_that_of_the_values():
    lines = [line for line in DOCS.splitlines() if line.startswith("| ")][:4]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, probability, strengths, gray = rows
    for column, title in enumerate(head[1:], 1):
        view, _ = pair(re.search(r"`(\w+)`", title)[1])
        assert float(probability[column]) == view.jitter.probability
        shown = tuple(map(float, strengths[column].split(",")[0].split()))
        assert shown == view.jitter.strengths
        assert float(gray[column].split(",")[0]) == view.gray
