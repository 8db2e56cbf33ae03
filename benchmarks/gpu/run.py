"""What `export.py` wrote, measured and trained under JAX, beside PyTorch, without TensorFlow.

    python benchmarks/gpu/run.py step --out figures       # images/s and memory, ours and PyTorch's
    python benchmarks/gpu/run.py train --out figures      # the CIFAR-10 demo, on from where it was

Each figure is a line of figures.jsonl in --out as soon as it is known. Commands, in order, and what
each takes: README.md.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from alternate import measure, ratios, serve, speed, timed

HERE = Path(__file__).resolve().parent
SIDES = ("ours", "pytorch", "compiled")


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two frameworks share a GPU
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.folder.resolve() / "cache"))
    if options.command == "train":
        from train import train

        train(options, lambda **row: record(options.out, part="train", **row))
    elif options.worker:
        serve(*_worker(options))
    else:
        for precision in options.precisions:
            compare(precision, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step", help="images/s of the step")
    step.add_argument(
        "--precisions", nargs="+", default=["mixed_bfloat16", "tf32", "float32"], help="exported"
    )
    step.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    step.add_argument("--device", default="cuda", choices=["cpu", "cuda"], help="of PyTorch")
    step.add_argument("--steps", type=int, default=10, help="in a round")
    step.add_argument("--rounds", type=int, default=7)
    step.add_argument("--worker", help=argparse.SUPPRESS)
    train = commands.add_parser("train", help="the CIFAR-10 demo")
    train.add_argument("--seconds", type=float, default=480, help="save and stop after that long")
    train.add_argument("--epochs", type=int, help="stop after that many; none: all")
    train.add_argument("--knn-every", type=int, default=10, help="epochs")
    train.add_argument("--seed", type=int, default=0)
    for one in (step, train):
        one.add_argument("--folder", type=Path, default=Path("build/gpu"), help="of export.py")
        one.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def record(out: Path, **row) -> None:
    """One more line of figures, on disk before anything else is done."""
    line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S")} | row)
    print(line, flush=True)
    with (out / "figures.jsonl").open("a") as file:
        file.write(line + "\n")


def compare(precision: str, options: argparse.Namespace) -> None:
    """Our step beside PyTorch's, in turns; a side that fails is named, and the rest goes on."""
    path = options.folder / f"step-{precision}.json"
    if not path.exists():
        raise SystemExit(f"{path} does not exist: make it with export.py step")
    facts = json.loads(path.read_text())
    sides = [side for side in SIDES if side in options.sides]
    while sides:
        commands = {side: _command(side, facts["settings"], options) for side in sides}
        note = {"part": "step", "precision": precision}

        def heard(side, answer, note=note):
            record(options.out, **note, side=side, **answer)

        try:
            said = measure(commands, options.rounds, heard)
        except SystemExit as error:  # begins with the side's name
            record(options.out, **note, failed=str(error))
            sides.remove(str(error).split()[0])
            continue
        for side in sides:
            compared = ratios(said[sides[0]]["rounds"], said[side]["rounds"])
            about = note | compared | speed(said[side]) | {"of": sides[0], "over": side}
            record(options.out, **about)
        return


def _command(side: str, settings: dict, options: argparse.Namespace) -> list[str]:
    own = [f"--steps={options.steps}", f"--worker={side}"]
    if side == "ours":
        own = [f"--steps={options.steps}", f"--worker={settings['precision']}"]
        places = [f"--folder={options.folder}", f"--out={options.out}"]
        return [sys.executable, str(HERE / "run.py"), "step", *places, *own]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    script = str(HERE.parent / "step_vs_pytorch.py")
    return [sys.executable, script, *flags, f"--device={options.device}", *own]


def _worker(options: argparse.Namespace):
    """Our step on one batch, warm."""
    started = time.perf_counter()
    import jax
    import numpy as np
    from program import drawn, load, stepping

    call, facts = load(options.folder, f"step-{options.worker}")
    state = jax.device_put(drawn(facts["start"], seed=0))
    step = jax.jit(stepping(call, state), donate_argnums=0)
    batch, side = facts["settings"]["batch_size"], facts["settings"]["image_size"]
    views = np.random.default_rng(0).integers(0, 256, (2, batch, side, side, 3), np.uint8)
    others = jax.device_put({"view1": views[0], "view2": views[1], "rate": np.float32(0.03)})
    done = 0

    def work(steps=options.steps):
        nonlocal state, done
        for _ in range(steps):
            state, scalars = step(state, others | {"number": np.int64(done)})
            done += 1
        float(scalars["loss"])  # waits for the device
        return steps * batch

    work(1)
    first = time.perf_counter() - started
    work()
    device = jax.devices()[0]
    facts = {"first": first, "versions": {"jax": jax.__version__}, "device": device.device_kind}
    return lambda: timed(work) | peak_of(device), facts


def peak_of(device) -> dict:
    """The most memory that arrays and programs took on the device; nothing where it is the CPU."""
    stats = device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {"peak_memory_bytes": peak} if peak else {}


if __name__ == "__main__":
    main()
