"""Learning rates against the recorded tables and hand-computed values."""

import json

import numpy as np
import pytest

from moco_tf.training.schedules import learning_rate

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
