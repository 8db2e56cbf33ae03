"""Keras backbones on a few labelled pictures, two epochs each: every promise of a run, checked.

    python benchmarks/results/keras_backbones.py --data ./cifar10 --json
    python benchmarks/results/keras_backbones.py --data ./cifar10 --only cnn cnn-in-python

A run of each backbone is left alone, and one is killed (SIGKILL) and started again. All steps are
taken in float64 on one and on two devices, and as a control on one whose first weights are nudged.
Then `keras_checks.py` evaluates and exports the first run. Prints seconds, differences and a
verdict for each check; exits 1 where one fails. Files go to OUT.

Random layers (EfficientNet's DropPath) draw for each microbatch, so two devices draw what one
device does that takes its batch as two microbatches: those are compared.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from image_subset import subset  # noqa: E402
from tiny_run import arrays_of, digest, largest_difference, newest_step  # noqa: E402

APPLICATIONS = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny")
CNN, IN_PYTHON = "cnn", "cnn-in-python"  # as a file, and as a keras.Model
FIELDS = {
    "image_size": 32,
    "batch_size": 32,
    "group_size": 8,
    "queue_size": 128,
    "epochs": 2,
    "learning_rate": 0.03,
    "knn_k": 20,
    "log_every": 1,
    "checkpoint_every": 1,
}
SEED = "seed_generator_state"  # what a layer has that draws in training
CALM = 1e-5  # a learning rate at which a rounding error does not grow tenfold with each step
NUDGE = 2e-16
SAME, TOLERANCE = 1e-12, 1e-9  # of the first gradients and of the last state, in float64


def main() -> int:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = options.out.resolve() / "pictures.npz"
    subset(options.data, pictures, train=options.train, test=options.test)
    found = {name: _backbone(name, pictures, options) for name in options.only}
    passed = all(one["passed"] for checks in found.values() for one in checks.values())
    result = {"passed": passed, "backbones": found}
    (options.out / "keras_backbones.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if options.json else _table(found))
    return 0 if passed else 1


def _options() -> argparse.Namespace:
    names = (*APPLICATIONS, CNN, IN_PYTHON)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="train/CLASS/* and test/CLASS/*")
    parser.add_argument("--out", type=Path, default=Path("runs/keras_backbones"))
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--train", type=int, default=160, help="pictures")
    parser.add_argument("--test", type=int, default=80, help="pictures")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _backbone(name: str, pictures: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Check -> its numbers, `passed` and `seconds`."""
    folder = pictures.parent / name
    folder.mkdir()
    fields = FIELDS | {"data": str(pictures)}
    if name == CNN:
        _call("make_cnn", str(folder / "cnn.keras"))
        fields["encoder"] = str(folder / "cnn.keras")
    elif name != IN_PYTHON:
        fields["encoder"] = f"keras:{name}"

    def train(run: str, kill_at: int | None = None, **changes) -> Path:
        return _train(fields | {"run_dir": str(folder / run)} | changes, kill_at)

    steps = options.train // FIELDS["batch_size"]  # of an epoch
    began = time.monotonic()
    whole = train("whole")
    seconds = time.monotonic() - began
    found = {"two epochs": {"passed": newest_step(whole) == FIELDS["epochs"] * steps}}
    found["two epochs"] |= {"state_sha256": digest(whole), "seconds": seconds}

    began, killed_at = time.monotonic(), steps + 1
    train("killed", kill_at=killed_at)
    killed = train("killed")
    found["killed and resumed"] = {
        "passed": digest(killed) == digest(whole),
        "killed_after_step": killed_at,
        "seconds": time.monotonic() - began,
    }

    began = time.monotonic()
    found["1 and 2 devices"] = _devices(fields, folder, whole)
    found["1 and 2 devices"]["seconds"] = time.monotonic() - began
    return found | _call("checks", str(whole), str(pictures), str(folder))


def _devices(fields: dict, folder: Path, whole: Path) -> dict:
    """One device, two, and the control: one device whose first weights are a rounding error off."""
    random = any(name.endswith(SEED) for name in arrays_of(whole))
    fields = fields | {"learning_rate": CALM}
    microbatches = {"accumulation_steps": 2 if random else 1}
    one, two = str(folder / "one"), str(folder / "two")
    losses = _call("steps", fields | {"devices": 1} | microbatches, one, [0, NUDGE])
    losses += _call("steps", fields | {"devices": 2}, two, [0])
    gradients = _of_gradients(f"{one}-0-first.npz", f"{two}-0-first.npz")
    difference = _difference(f"{one}-0-last.npz", f"{two}-0-last.npz")
    return {
        "passed": gradients <= SAME and difference <= TOLERANCE,
        "first_gradients": gradients,
        "difference": difference,
        "control": _difference(f"{one}-0-last.npz", f"{one}-{NUDGE:g}-last.npz"),
        "microbatches_of_one_device": microbatches["accumulation_steps"],
        "losses": dict(zip(("one", "control", "two"), losses, strict=True)),
    }


def _difference(one: str, other: str) -> float:
    with np.load(one) as a, np.load(other) as b:
        return largest_difference(a, b)


def _of_gradients(one: str, other: str) -> float:
    """Largest |a - b| / the largest |b| of two states' momentum, after one step the gradient."""
    with np.load(one) as a, np.load(other) as b:
        slots = [name for name in b if name.startswith("momentum/")]
        largest = max(float(np.max(np.abs(b[n]))) for n in slots)
        return max(float(np.max(np.abs(a[n] - b[n]))) for n in slots) / largest


def _train(fields: dict, kill_at: int | None) -> Path:
    """Trains in a process of its own, which is killed after a step. Returns the run folder."""
    run_dir = Path(fields["run_dir"])
    if "encoder" in fields:
        command = [sys.executable, "-m", "moco_tf", "pretrain", "small"]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
    else:
        command = _command("train_cnn", fields)
    with open(f"{run_dir}.txt", "a", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        while kill_at and newest_step(run_dir) < kill_at and process.poll() is None:
            time.sleep(0.002)
        if kill_at:
            process.kill()
        code = process.wait()
    if code != (-9 if kill_at else 0):
        raise SystemExit(f"{' '.join(command)} ended with {code}: see {run_dir}.txt")
    return run_dir


def _call(function: str, *arguments):
    """What a function of keras_checks.py returns, called in a process of its own."""
    done = subprocess.run(_command(function, *arguments), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _command(function: str, *arguments) -> list[str]:
    return [sys.executable, str(HERE / "keras_checks.py"), function, *map(json.dumps, arguments)]


def _table(found: dict[str, dict]) -> str:
    lines = []
    for name, checks in found.items():
        lines.append(name)
        for check, numbers in checks.items():
            verdict = "ok" if numbers["passed"] else "FAILED"
            rest = {k: v for k, v in numbers.items() if k not in ("passed", "seconds")}
            lines.append(f"  {verdict:6} {check:22} {numbers['seconds']:6.1f} s  {rest}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
