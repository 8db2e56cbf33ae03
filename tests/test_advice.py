"""Suggestions: where each begins, what it suggests, and that following it silences it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from moco_tf.config import make_config
from moco_tf.config.batch_groups import check_enough_images
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.training.advice import own_keys_in_queue, suggestions
from moco_tf.training.facts import Facts, known_facts, short_side

FACTS = Facts(images=50_000, steps=100_000)


def found(changes=None, facts=FACTS, recipe="cifar10-demo", **more):
    config = make_config(RECIPES[recipe].config, (changes or {}) | more)
    return suggestions(config, facts)


def only(*arguments, **changes):
    (one,) = found(*arguments, **changes)
    return one


def follow(one, changes):
    return changes | {one.field: one.suggest}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_recipes_on_their_own_data_are_silent(recipe):
    images = {"imagenet": 1_281_167, "cifar10": 50_000, "shapes": 4096, "pictures": 4096}
    config = RECIPES[recipe].config
    count = images[config.data]
    steps = config.epochs * (count // config.batch_size)
    assert suggestions(config, Facts(images=count, steps=steps)) == []


def test_a_queue_larger_than_the_data():
    facts = replace(FACTS, images=3000)
    changes = {"queue_size": 4096, "batch_size": 64, "group_size": 8}
    one = only(changes, facts)
    assert (one.field, one.value, one.suggest) == ("queue_size", 4096, 704)  # 11 * 64 <= 750
    assert one.line == f"suggestion: --queue-size 704 (now 4096): {one.reason}"
    assert "1.4 epochs" in one.reason and "0.87 of" in one.reason and "64 steps" in one.reason
    assert found(follow(one, changes), facts) == []
    symmetric = only(changes, facts, symmetric=True)  # each image leaves two keys a step
    assert symmetric.suggest == 1408 and "0.68 epochs" in symmetric.reason


def test_a_queue_is_never_smaller_than_the_keys_of_a_step():
    facts = replace(FACTS, images=600)
    one = only({"queue_size": 4096}, facts)
    assert one.suggest == 512
    assert found(follow(one, {}), facts) == []


@pytest.mark.parametrize(("size", "suggest"), [(4000, 3584), (100, 512)])
def test_a_queue_of_whole_batches(size, suggest):
    one = only(queue_size=size)
    assert (one.field, one.suggest) == ("queue_size", suggest)


@pytest.mark.parametrize(
    ("batch", "field", "suggest"),
    [(128, "group_size", 32), (48, "group_size", 24), (8, "group_size", 4), (31, "batch_size", 62),
     (74, "batch_size", 148)],
)  # fmt: skip
def test_one_group_is_no_shuffling(batch, field, suggest):
    changes = {"batch_size": batch, "group_size": batch, "queue_size": 64 * batch}
    one = only(changes)
    assert (one.field, one.suggest) == (field, suggest)
    assert [s.field for s in found(follow(one, changes))] in ([], ["queue_size"])


def test_groups_of_very_few_images():
    changes = {"batch_size": 48, "group_size": 4, "queue_size": 4800}
    assert (only(changes).field, only(changes).suggest) == ("group_size", 8)
    four = replace(FACTS, devices=4, gpus=4)  # groups of 12: 8 would make 6 of them
    one = only(changes, four, devices=4)
    assert (one.field, one.suggest) == ("group_size", 12)
    assert found({"batch_size": 12, "group_size": 4, "queue_size": 4800}) == []


@pytest.mark.parametrize(
    ("momentum", "steps", "expected"),
    [
        (0.999, 692, [("key_momentum", 0.996)]),  # 0.999^692 = 50.04 %
        (0.999, 693, []),  # 49.99 %
        (0.999, 780, []),  # where it was better than 0.99: docs/results.md
        (0.9999, 6000, [("key_momentum", 0.999)]),
        (1, 10**6, [("key_momentum", 0.999)]),
        (0.996, 172, [("key_momentum", 0.99)]),
        (0.99, 69, []),
        (0.999, 30, [("key_momentum", 0.99), ("epochs", 460)]),  # ln 0.5 / ln 0.99 = 68.97
    ],
)
def test_a_run_too_short_for_its_key_momentum(momentum, steps, expected):
    facts = replace(FACTS, steps=steps)
    said = found(None, facts, key_momentum=momentum, epochs=200)
    assert [(one.field, one.suggest) for one in said] == expected


def test_a_recipe_s_rate_that_is_not_scaled():
    facts = replace(FACTS, recipe_learning_rate=0.03)
    one = only({"lr_scaling": "absolute"}, facts)
    assert (one.field, one.suggest) == ("lr_scaling", "linear") and "0.06 for 512" in one.reason
    assert found({"lr_scaling": "absolute", "learning_rate": 0.05}, facts) == []
    assert found({"lr_scaling": "absolute", "batch_size": 256}, facts) == []


def test_devices_that_cost_and_devices_that_idle():
    one = only({"devices": 2}, replace(FACTS, devices=2))
    assert (one.field, one.suggest) == ("devices", 1)
    assert found({"devices": 2}, replace(FACTS, devices=2, gpus=4)) == []  # somebody's choice
    idle = replace(FACTS, devices=4, gpus=6)  # 8 groups of 64
    one = only(facts=idle)
    assert (one.field, one.suggest) == ("batch_size", 768) and "8 BatchNorm" in one.reason
    one = only({"group_size": 128}, replace(FACTS, devices=4, gpus=8))
    assert (one.field, one.suggest) == ("group_size", 64)


def test_images_smaller_than_the_crop():
    facts = replace(FACTS, small_images=2501, short_side=24)
    one = only(facts=facts)
    assert (one.field, one.suggest) == ("image_size", 24) and "5%" in one.reason
    assert found(facts=replace(facts, small_images=2500)) == []


def test_what_is_suggested_is_accepted():
    """By the config's own checks, and with the images there are."""
    rng, followed = np.random.default_rng(0), set()
    for _ in range(3000):
        gpus, images = int(rng.integers(0, 7)), int(rng.integers(2, 400))
        changes = {
            "batch_size": int(rng.integers(2, images + 1)),
            "group_size": int(rng.integers(2, 40)),
            "devices": [None, 1, 2, 3][rng.integers(4)],
            "accumulation_steps": int(rng.integers(1, 4)),
            "recompute": bool(rng.integers(2)),
            "stem": ["imagenet", "small"][rng.integers(2)],
        }
        try:
            make_config(RECIPES["cifar10-demo"].config, changes)
        except InputError:
            continue
        groups, given = changes["batch_size"] // changes["group_size"], changes["devices"]
        spread = [
            n for n in range(1, gpus + 1) if groups % (n * changes["accumulation_steps"]) == 0
        ]
        facts = replace(
            FACTS, images=images, gpus=gpus, devices=given or max(spread, default=1),
            steps=int(rng.integers(1, 2000)), small_images=images // 2,
            short_side=int(rng.integers(4, 40)),
        )  # fmt: skip
        for one in found(changes, facts):
            config = make_config(RECIPES["cifar10-demo"].config, follow(one, changes))
            check_enough_images(images, config.batch_size, config.group_size)
            followed.add(one.field)
    assert followed >= {"batch_size", "group_size", "image_size", "devices"}


@pytest.mark.parametrize("size", [5, 20, 40, 55, 90])
def test_own_keys_are_those_of_a_queue_that_is_filled_epoch_by_epoch(size):
    images, epochs = 40, 1500
    rng = np.random.default_rng(size)
    order = np.concatenate([rng.permutation(images) for _ in range(epochs)])
    held = [np.sum(order[i - size : i] == order[i]) for i in range(3 * images, len(order))]
    # The closed form is of many images: with so few, an image's own place counts.
    assert np.mean(held) == pytest.approx(own_keys_in_queue(size, images), abs=0.02)


def test_the_short_side_is_that_of_all_images_but_a_few():
    sizes = np.stack([np.arange(100, 0, -1), np.full(100, 60)], axis=1)  # sides 1 to 60, then 60
    assert short_side(sizes) == 6
    assert short_side(None) is None


def test_the_facts_of_a_run_are_those_of_its_images_and_its_recipe():
    sizes = np.array([[40, 30]] * 90 + [[20, 200]] * 10)
    images = SimpleNamespace(
        count=100,
        known_sizes=sizes,
        smaller_than=lambda side: np.flatnonzero(sizes.min(axis=1) < side),
    )
    changes = {"batch_size": 30, "group_size": 10, "epochs": 7, "image_size": 32}
    config = make_config(RECIPES["cifar10-demo"].config, changes)
    known = known_facts(config, images, devices=2, gpus=3)
    rate = RECIPES["cifar10-demo"].config.learning_rate
    assert known == Facts(100, 21, 2, 3, 20, 100, rate)  # 7 epochs of 3 whole batches
    images.count = 1000  # of which a tenth was looked at
    known = known_facts(config, images, devices=2, gpus=3)
    assert (known.short_side, known.small_images) == (20, 1000)
    images.known_sizes, images.smaller_than = None, lambda side: np.empty(0, np.int64)
    known = known_facts(config, images, devices=2, gpus=3)
    assert (known.short_side, known.small_images) == (None, 0)
