"""How long training stops for a checkpoint: written in the loop, and beside it, in turns.

    python benchmarks/save_time.py --folder /the/disk/to/measure
    python benchmarks/save_time.py --encoder resnet18 --queue-size 4096 --json

In the loop: the arrays are copied, looked at for numbers that are none, written, read back and
renamed before the next step. Beside: copied and looked at; a thread does the rest while steps go
on. Each round does both, with the same number of steps after each save, and waits at its end for
what is still being written; rounds begin with the one and the other in turns. Then the parts of a
save are timed alone.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = measure(Path(name), options)
    print(json.dumps(result) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="on the disk to measure; none: that of temporary files")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--queue-size", type=int, default=65536)
    parser.add_argument("--steps", type=int, default=8, help="after each save")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(folder: Path, options: argparse.Namespace) -> dict:
    """All rounds; returns what is printed."""
    from moco_tf.api.starting import start_tensorflow
    from moco_tf.commands.quiet import be_quiet

    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # or its first lines are shown
    be_quiet()
    start_tensorflow()
    import numpy as np

    from moco_tf.benchmark.rounds import noise, repeated, rounds_of
    from moco_tf.building import build_batches, build_method, build_step, build_strategy
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs import checkpoint
    from moco_tf.runs.background_save import AsyncCheckpointer
    from moco_tf.runs.folder import versions

    fields = ("encoder", "image_size", "batch_size", "queue_size")
    changes = {name: getattr(options, name) for name in fields}
    changes |= {"group_size": options.batch_size // 2, "devices": 1, "augment_on": "host"}
    config = make_config(RECIPES["moco-v2"].config, changes)
    images = noise(config)
    method = build_method(config, build_strategy(config), images)
    batches = repeated(build_batches(config, images, 0))
    work = rounds_of(config, build_step(config, method), batches)
    work(2)
    number = 0

    def snapshot():
        arrays = {name: variable.numpy() for name, variable in method.state().items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise SystemExit("the run diverged")
        return arrays

    def in_the_loop() -> float:
        return _timed(lambda: checkpoint.save(folder, snapshot(), step=number, extra={}))

    def beside() -> float:
        return _timed(lambda: saver.save(snapshot(), step=number, extra={}))

    rounds = []
    with AsyncCheckpointer(folder) as saver:
        for turn in range(options.rounds):
            alone = work(options.steps).seconds
            found = {"steps": alone}
            sides = {"in_the_loop": in_the_loop, "beside": beside}
            for name in list(sides) if turn % 2 else list(reversed(sides)):
                number += 1
                began = time.perf_counter()
                found[name] = sides[name]()
                found[f"{name}_steps"] = work(options.steps).seconds
                saver.wait()
                found[f"{name}_in_all"] = time.perf_counter() - began
            found["writing"] = saver.seconds
            rounds.append(found)
    parts = [_parts(folder, method, turn) for turn in range(options.rounds)]
    return {
        "settings": vars(options),
        "state_bytes": sum(variable.numpy().nbytes for variable in method.state().values()),
        "seconds": {name: statistics.median(r[name] for r in rounds) for name in rounds[0]},
        "parts_seconds": {name: statistics.median(p[name] for p in parts) for name in parts[0]},
        "n": len(rounds),
        "rounds": rounds,
        "versions": versions(),
    }


def _timed(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _parts(folder: Path, method, number: int) -> dict[str, float]:
    """Seconds of each part of a save, alone and in order."""
    import numpy as np

    from moco_tf.files.atomic import write_atomically
    from moco_tf.runs import checkpoint, checkpoint_file

    arrays, path, data = {}, folder / f"part-{number}.safetensors", b""
    read = checkpoint_file.read

    def copy():
        for name, variable in method.state().items():
            arrays[name] = np.asarray(variable.numpy())

    def serialise():
        nonlocal data
        metadata = {"step": "0", "extra": "{}", "sha256": "", "metadata_sha256": ""}
        data = checkpoint_file.to_safetensors(arrays, metadata)

    found = {
        "copy": _timed(copy),
        "look for NaN": _timed(lambda: [np.isfinite(array).all() for array in arrays.values()]),
        "digest": _timed(lambda: checkpoint_file.digest(arrays)),
        "serialise": _timed(serialise),
        "write, fsync, rename": _timed(lambda: write_atomically(path, data)),
    }
    data = b""
    whole = checkpoint.save(folder / "whole", arrays, step=number, extra={})
    found["read back, digest"] = _timed(lambda: read(whole))
    found["delete"] = _timed(path.unlink)
    return found


def _table(result: dict) -> str:
    seconds, steps = result["seconds"], result["settings"]["steps"]
    size = result["state_bytes"] / 1e6
    lines = [
        f"State {size:.0f} MB; medians of n = {result['n']}, seconds.",
        "",
        f"| | training stops | {steps} steps after it | in all |",
        "|---|---|---|---|",
        f"| no save | | {seconds['steps']:.2f} | {seconds['steps']:.2f} |",
    ]
    for name in ("in_the_loop", "beside"):
        values = [seconds[name], seconds[f"{name}_steps"], seconds[f"{name}_in_all"]]
        cells = " | ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name.replace('_', ' ')} | {cells} |")
    lines += ["", f"Writing beside takes {seconds['writing']:.2f} s.", "", "| part | s |"]
    lines += ["|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in result["parts_seconds"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
