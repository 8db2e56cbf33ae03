"""More epochs for a run: what becomes of its learning rate, in closed form."""

import math
from functools import partial

import pytest

from moco_tf.building import build_schedule
from moco_tf.config import make_config
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.runs.extension import more_epochs

COSINE = make_config(RECIPES["moco-v2"].config, {"epochs": 2, "schedule_unit": "step"})
STEP = make_config(RECIPES["moco-v1"].config, {"epochs": 2, "milestones": (1, 3)})
rate_of = partial(build_schedule, epoch_steps=10)  # from 0.03


def test_the_step_schedule_goes_on_as_if_it_had_always_been_so_long():
    longer, line = more_epochs(STEP, 4, step=13, rate_of=rate_of, allowed=False)
    assert longer == STEP.model_copy(update={"epochs": 4})
    assert line == (
        "4 epochs instead of 2; the learning rate is that of a run of 4 from the beginning"
    )
    rates = [rate_of(longer)(step) for step in range(40)]
    assert rates[:20] == [rate_of(STEP)(step) for step in range(20)]
    assert rates == pytest.approx([0.03] * 10 + [0.003] * 20 + [0.0003] * 10)


def test_a_cosine_changes_and_only_if_that_is_allowed():
    with pytest.raises(
        InputError,
        match=r"^epochs=4 is more than the run's 2, .*change at step 20 from 0\.000185 to 0\.015\. "
        r"Add --extend to go on so, or .*--init\.$",
    ):
        more_epochs(COSINE, 4, step=20, rate_of=rate_of, allowed=False)
    longer, line = more_epochs(COSINE, 4, step=20, rate_of=rate_of, allowed=True)
    assert line.endswith("the learning rate changes at step 20 from 0.000185 to 0.015")
    rates = [rate_of(longer)(step) for step in range(40)]
    wanted = [0.015 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    wanted += [0.015 * (1 + math.cos(math.pi * step / 40)) for step in range(20, 40)]
    assert rates == pytest.approx(wanted)
    again, _ = more_epochs(longer, 8, step=33, rate_of=rate_of, allowed=True)
    assert (again.epochs, again.earlier_schedules) == (8, ((20, 2), (33, 4)))
    assert [rate_of(again)(step) for step in range(33)] == rates[:33]
    assert rate_of(again)(40) == pytest.approx(0.015)


def test_a_rate_that_is_still_the_same_is_not_said_to_jump():
    by_epoch = COSINE.model_copy(update={"schedule_unit": "epoch"})
    _, line = more_epochs(by_epoch, 4, step=7, rate_of=rate_of, allowed=True)
    assert line == "4 epochs instead of 2: the learning rate changes after step 7"


def test_before_the_first_step_nothing_jumps():
    longer, line = more_epochs(COSINE, 4, step=0, rate_of=rate_of, allowed=False)
    assert longer == COSINE.model_copy(update={"epochs": 4}) and "from the beginning" in line
