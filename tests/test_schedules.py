"""Learning rates against the recorded tables and hand-computed values."""

import json

import numpy as np
import pytest

from moco_tf.training.schedules import cosine_momentum, learning_rate, warm_cosine

COSINE = {
    "steps_per_epoch": 10,
    "epochs": 200,
    "base": 0.03,
    "schedule": "cosine",
    "milestones": (),
    "drop": 0.1,
    "unit": "epoch",
    "first_epoch": 0,
}


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 0.03), (1, 0.0299981495), (50, 0.0256066), (100, 0.015), (199, 1.85051e-6)],
)
def test_cosine_has_the_known_values_all_through_an_epoch(epoch, rate):
    for step in (epoch * 10, epoch * 10 + 9):
        assert learning_rate(step, **COSINE) == pytest.approx(rate, rel=1e-5)


def test_cosine_per_step_moves_inside_an_epoch():
    rates = [learning_rate(s, **COSINE | {"unit": "step"}) for s in range(11)]
    assert (np.diff(rates) < 0).all()
    assert rates[10] == pytest.approx(0.0299981495, rel=1e-6)


def test_step_schedule_drops_at_its_milestones():
    settings = COSINE | {"schedule": "step", "milestones": (120, 160)}
    rates = [learning_rate(e * 10, **settings) for e in (0, 119, 120, 159, 160, 199)]
    np.testing.assert_allclose(rates, [0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


@pytest.mark.golden
def test_rates_match_the_recorded_tables(golden):
    """Every table of a rate per epoch, at its own settings."""
    z = golden("schedules")
    tables = json.loads(str(z["meta_json"]))["config"]
    tables = {name: c for name, c in tables.items() if "/lr_per_epoch" in name and "schedule" in c}
    assert tables
    for name, c in tables.items():
        settings = COSINE | {
            "epochs": c["epochs"],
            "base": c["lr"],
            "schedule": "cosine" if c.get("cos") else "step",
            "milestones": tuple(c["schedule"]),
            "first_epoch": c["epoch_first"],
        }
        ours = [learning_rate(epoch * 10, **settings) for epoch in range(c["n"])]
        np.testing.assert_allclose(ours, z[name], rtol=1e-6, atol=1e-18, err_msg=name)


V3 = COSINE | {"steps_per_epoch": 312, "epochs": 100, "base": 9.6, "unit": "step"}


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (1, 0.00307692), (5 * 312, 4.8), (10 * 312, 9.6), (55 * 312, 4.8)],
)
def test_the_cosine_comes_after_the_warm_up(step, rate):
    assert learning_rate(step, **V3, warmup_epochs=10) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ("epoch", "momentum"), [(0, 0.99), (10, 0.99024472), (50, 0.995), (90, 0.99975528)]
)
def test_momentum_rises_to_one(epoch, momentum):
    found = cosine_momentum(epoch * 312, steps_per_epoch=312, epochs=100, base=0.99)
    assert found == pytest.approx(momentum, abs=5e-9)


@pytest.mark.golden
def test_rates_and_momenta_of_v3_match_the_recorded_tables(golden):
    z = golden("schedules")
    configs = json.loads(str(z["meta_json"]))["config"]
    for name in ("v3_r50_lars_100ep", "v3_vits_adamw_300ep"):
        config = configs[name]
        length = {"steps_per_epoch": config["iters_per_epoch"], "epochs": config["epochs"]}
        recorded = zip(z[f"{name}/lr_per_iter"], z[f"{name}/momentum_per_iter"], strict=True)
        settings = COSINE | length | {"base": config["lr"], "unit": "step"}
        for step, (rate, momentum) in enumerate(recorded):
            found = learning_rate(step, **settings, warmup_epochs=config["warmup_epochs"])
            assert found == pytest.approx(rate, rel=1e-12, abs=1e-15)
            found = cosine_momentum(step, base=config["moco_m"], **length)
            assert found == pytest.approx(momentum, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [  # base 5e-4, 300 epochs, 5 of them from 1e-6, to 1e-5
        (0, 1e-6),
        (2.5, 1e-6 + 499e-6 / 2),
        (5, 1e-5 + 49e-5 * 0.5 * (1 + 0.9986295347545738)),  # cos(pi / 60)
        (150, 1e-5 + 49e-5 / 2),
        (300, 1e-5),
    ],
)
def test_a_warm_cosine_has_two_ends(epoch, rate):
    ends = {"warmup_epochs": 5, "first": 1e-6, "last": 1e-5}
    found = warm_cosine(round(epoch * 10), steps_per_epoch=10, epochs=300, base=5e-4, **ends)
    assert found == pytest.approx(rate, rel=1e-12)


def test_without_ends_it_is_the_cosine_bit_for_bit():
    length = {"steps_per_epoch": 7, "epochs": 9, "base": 0.0211}
    for step in range(63):
        wanted = learning_rate(step, **length, schedule="cosine", unit="step")
        assert warm_cosine(step, **length) == wanted
