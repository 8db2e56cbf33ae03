"""Recorded steps of MoCo v3 are met, a changed one is caught, other files are refused."""

import json

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.verify import verify_files
from moco_tf.verify.traces import bundled_traces, read_trace

SETTINGS = {
    "kind": "vit", "width": 24, "depth": 2, "heads": 2, "stem": "patch", "patch": 8, "size": 32,
    "batch": 12, "dim": 16, "mlp_dim": 32, "T": 0.2, "m": 0.95, "m_cos": True, "opt": "adamw",
    "lr": 2e-3, "wd": 0.1, "ipe": 2, "epochs": 3, "warmup": 1, "steps": 6, "stop_grad_conv1": False,
}  # fmt: skip
NAMES = ("resnet_a", "resnet_b", "vit_a", "vit_b", "vit_c")


def written(path, **changes):
    """A file with settings and next to nothing else."""
    meta = json.dumps({"config": SETTINGS | changes})
    np.savez(path, meta_json=np.array(meta), q1=np.zeros(1), k2=np.zeros(1))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "cnn"}, "setting kind: Input should be 'resnet' or 'vit'"),
        ({"kind": "resnet"}, "layers must be given of a ResNet"),
        ({"heads": 5}, "received vit_width=24, heads=5"),
        ({"size": 30}, "image_size=30, patch_size=8"),
        ({"warmup": 3}, "warmup=3 must be less than epochs=3"),
        ({"width": 2**20, "heads": 1}, "are more than 67108864 weights"),
        ({"depth": 2**30}, "blocks"),
        ({"batch": 2**20}, "images of size=32 are more than"),
        ({"opt": "sgd"}, "setting opt: "),
        ({"T": 0}, "setting T: "),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(InputError) as caught:
        read_trace(written(tmp_path / "trace.npz", **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_schedules_are_those_of_the_official_code(tmp_path):
    """A warm-up of an epoch of two steps, then the cosine; the first rate is 0."""
    settings = read_trace(written(tmp_path / "trace.npz")).settings
    rates, momenta = zip(*(settings.scheduled(step) for step in range(6)), strict=True)
    cosine = [1e-3 * (1 + np.cos(np.pi * t / 2)) for t in (0, 0.5, 1, 1.5)]
    assert rates == pytest.approx([0, 1e-3, *cosine], rel=1e-12)
    wanted = [1 - 0.025 * (1 + np.cos(np.pi * step / 6)) for step in range(6)]
    assert momenta == pytest.approx(wanted, rel=1e-12)


def test_a_file_without_its_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="'x1' is missing"):
        verify_files([written(tmp_path / "trace.npz")])


OWN = {p.stem: str(p) for p in bundled_traces() if p.stem.startswith("own_v3")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_v3_resnet", "own_v3_vit"])
def test_bundled_steps_of_another_writing_are_met(name):
    result = verify_files([OWN[name]], float64=True)
    assert result["ok"], result["files"][0]["first_failure"]
    rows = {row["quantity"]: row["error"] for row in result["files"][0]["quantities"]}
    assert rows["gradient norms, float64 run"] < 1e-12 and rows["loss, float64 run"] < 1e-13
    slots = {"own_v3_resnet": "mu", "own_v3_vit": "exp_avg_sq"}
    assert {"query parameters", "key parameters", f"optimizer's {slots[name]}"} <= rows.keys()


def test_what_comes_with_the_package_is_small():
    assert sum(path.stat().st_size for path in bundled_traces() if path.stem in OWN) < 300_000


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("float64", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", NAMES)
def test_recorded_steps_are_met(golden_folder, name, float64):
    path = golden_folder / f"moco_v3_{name}.npz"
    result = verify_files([str(path)], float64=float64)
    assert result["ok"], result["files"][0]["first_failure"]
    compared = {row["quantity"] for row in result["files"][0]["quantities"]}
    assert {"learning rate", "momentum", "queries", "keys", "loss", "gradient norms"} <= compared
    assert {"query parameters", "key parameters, 1-D, float64 run", "running means"} <= compared


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize(
    ("array", "index", "quantity", "step"),
    [
        ("loss", 3, "loss", 4),
        ("m", 1, "momentum", 2),
        ("step1/momentum_encoder.head.0.weight", 0, "key parameters", 1),
    ],
)
def test_a_changed_number_is_named_with_its_step(golden, tmp_path, array, index, quantity, step):
    arrays = dict(golden("moco_v3_vit_c"))
    arrays[array] = arrays[array].copy()
    arrays[array][index] += 1e-3
    np.savez(tmp_path / "changed.npz", **arrays)
    first = verify_files([str(tmp_path / "changed.npz")])["files"][0]["first_failure"]
    assert (first["quantity"], first["step"], first["array"]) == (quantity, step, array)
