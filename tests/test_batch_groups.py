"""How a batch divides: what is refused, and that every advice is accepted."""

import itertools
import re

import pytest

from moco_tf.config import make_config
from moco_tf.config.batch_groups import _divisors, check_devices, check_enough_images
from moco_tf.errors import InputError
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.recipes import RECIPES

SHAPES = RECIPES["shapes"].config


def advised(error):
    """What an error says to use: one set of fields for each alternative."""
    text = str(error).partition(" Use ")[2].rstrip(".")
    assert text, error
    return [
        {
            flag.replace("-", "_"): int(value)
            for flag, value in re.findall(r"--([a-z-]+) (\d+)", one)
        }
        for one in text.split(", or ")
    ]


def refused(base, changes):
    try:
        make_config(base, changes)
    except InputError as error:
        return error


@pytest.mark.parametrize("base", [SHAPES, FinetuneConfig(run="r")], ids=["pretrain", "finetune"])
def test_what_is_advised_is_accepted_and_asks_for_no_more_images(base):
    microbatches = (1, 2, 3) if base is SHAPES else (1,)
    batches, groups, devices = (*range(2, 41), 64, 72, 97, 256), (2, 3, 8, 16, 32, 64), (1, 2, 3, 4)
    followed = 0
    for batch, group, device, chunk in itertools.product(batches, groups, devices, microbatches):
        changes = {"batch_size": batch, "group_size": group, "devices": device}
        changes |= {"accumulation_steps": chunk} if base is SHAPES else {}
        error = refused(base, changes)
        for advice in advised(error) if error else ():
            assert refused(base, changes | advice) is None, (changes, error)
            assert advice.get("batch_size", batch) <= batch
            followed += 1
    assert followed > 1000


def test_ten_images_in_a_batch_of_ten():
    with pytest.raises(InputError, match=r"batch_size=10, group_size=16\. Use --group-size 5\.$"):
        make_config(SHAPES, {"batch_size": 10})


def test_fewer_images_than_a_batch_get_a_batch_that_divides():
    for images, group, devices, microbatches in itertools.product(
        range(2, 70), (2, 3, 16, 32, 64), (1, 2, 3), (1, 2)
    ):
        with pytest.raises(InputError, match=f"number of images, {images}; received") as error:
            check_enough_images(images, 256, group, devices, microbatches)
        (advice,) = advised(error.value)
        changes = {"batch_size": 256, "group_size": group, "devices": devices}
        config = make_config(SHAPES, changes | {"accumulation_steps": microbatches} | advice)
        check_enough_images(images, config.batch_size, config.group_size)
        assert config.batch_size >= 2 * config.group_size or images < 4
    with pytest.raises(
        InputError, match=r"number of images, 48; .* Use --batch-size 48 --group-size 16"
    ):
        check_enough_images(48, 64, 16)
    with pytest.raises(InputError, match=r"Give more images\.$"):
        check_enough_images(1, 2, 2)


def test_devices_of_several_workers_count_together():
    check_devices(256, 32, 8)
    check_devices(256, 32, 2, workers=4)
    with pytest.raises(InputError, match=r"devices=3 on each of 2 workers\. Use --devices 2\.$"):
        check_devices(256, 32, 3, workers=2)
    check_devices(256, 32, 2, workers=2)


def test_the_divisors_are_all_of_them():
    for number in (1, 2, 12, 36, 97, 2310):
        assert _divisors(number) == [d for d in range(1, number + 1) if number % d == 0]
