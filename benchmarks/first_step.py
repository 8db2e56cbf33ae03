"""From the command to the end of the first step: which parts take how long, in fresh processes.

    python benchmarks/first_step.py shapes --rounds 5 --json
    python benchmarks/first_step.py moco-v2 --data PHOTOS --batch-size 8
    python benchmarks/first_step.py shapes --torch

RECIPE and the flags behind it are those of `moco-tf pretrain`. Parts are in the order in which they
begin; "other" is what lies between them. CPU seconds are of all threads of the process, so where
two parts run at once they are in both. The evaluation of the untrained encoder comes after the
first step and is not in the sum. With `--torch` the same ResNet and batch size in PyTorch, on
random views; no images are opened or evaluated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from types import SimpleNamespace

LAST_STEP = 3  # of which the last one tells what a step takes


class Done(BaseException):
    """Ends a run that has been measured; nothing in the package catches it."""


class Clock:
    """Seconds of named parts: {name: [wall, CPU]}; a part within another is taken off that one."""

    def __init__(self, started):
        self.started, self.parts, self._open = started, {}, []

    @contextmanager
    def part(self, name):
        wall, cpu = time.perf_counter(), time.process_time()
        self.parts.setdefault(name, [0.0, 0.0])
        self._open.append([0.0, 0.0])
        try:
            yield
        finally:
            spent = [time.perf_counter() - wall, time.process_time() - cpu]
            within = self._open.pop()
            for place in range(2):
                self.parts[name][place] += spent[place] - within[place]
                if self._open:
                    self._open[-1][place] += spent[place]

    def wrap(self, owner, name, part, limit=None):
        """Counts the calls of a function to a part; of the first `limit` calls, if given."""
        function, calls = getattr(owner, name), []

        def counted(*arguments, **keywords):
            calls.append(None)
            if limit and len(calls) > limit:
                return function(*arguments, **keywords)
            with self.part(part):
                return function(*arguments, **keywords)

        setattr(owner, name, counted)

    def total(self):
        """[wall, CPU] since the process was started."""
        return [time.time() - self.started, time.process_time()]


def until_first_step(started, arguments):
    """Runs `moco-tf pretrain` in this process up to a step after the first."""
    clock = Clock(started)
    clock.parts["starting Python"] = clock.total()
    with clock.part("imports"):
        from moco_tf.api.starting import start_tensorflow

        start_tensorflow()
        import moco_tf.pretraining
        from moco_tf.commands.cli import main
        from moco_tf.methods.moco import MoCo
        from moco_tf.methods.moco_v3 import MoCoV3
        from moco_tf.training.loop import Loop
        from moco_tf.training.pretraining_job import PretrainingJob
    rooms = moco_tf.pretraining
    clock.wrap(rooms.opening, "build_images", "opening the images")
    clock.wrap(rooms, "build_method", "building the encoders")
    clock.wrap(rooms, "evaluate_untrained", "evaluating the untrained encoder")
    clock.wrap(rooms, "build_batches", "first batch")
    clock.wrap(Loop, "_next_batch", "first batch", limit=1)
    for method in (MoCo, MoCoV3):
        clock.wrap(method, "train_step", "tracing the step")
    step, found, steps = PretrainingJob.step, {}, []

    def waited(job, batch):
        steps.append(None)
        with clock.part("first call of the step" if len(steps) == 1 else f"step {len(steps)}"):
            step(job, batch)
            job.wait()
        if len(steps) == 1:
            found["total"] = clock.total()
            found["parts"] = {name: list(spent) for name, spent in clock.parts.items()}
        if len(steps) == LAST_STEP:
            raise Done

    PretrainingJob.step = waited
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["moco-tf", "pretrain", *arguments, "--run-dir", os.path.join(folder, "run")]
        sys.argv += ["--max-steps", str(LAST_STEP), "--json"]
        try:
            code = main()
        except Done:
            later = {"untrained": "evaluating the untrained encoder", "a_step": f"step {LAST_STEP}"}
            return found | {name: clock.parts[part] for name, part in later.items()}
    raise SystemExit(code)


def until_first_step_of_torch(started, arguments):
    """The same of PyTorch, without images: network, batch size and queue of the recipe."""
    clock = Clock(started)
    clock.parts["starting Python"] = clock.total()
    with clock.part("imports"):
        import torch
        from step_vs_pytorch import torch_v2, torch_v3

        from moco_tf.api.settings import resolve_config
    recipe, *flags = arguments
    fields = [flag.lstrip("-").replace("-", "_") for flag in flags[::2]]
    config = resolve_config(recipe, None, dict(zip(fields, flags[1::2], strict=True)))
    config = SimpleNamespace(**dict(config), worker="pytorch", device="cpu")
    with clock.part("building the encoders"):
        v3 = config.method == "moco-v3"
        step = torch_v3(config, config.mlp_dim) if v3 else torch_v2(config)
    with clock.part("first batch"):
        shape = (config.batch_size, 3, config.image_size, config.image_size)
        views = [torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2)]
    with clock.part("first call of the step"):
        float(step(*views).detach())
    found = {"total": clock.total(), "parts": dict(clock.parts), "untrained": [0.0, 0.0]}
    for _ in range(LAST_STEP - 1):
        clock.parts.pop("step", None)
        with clock.part("step"):
            float(step(*views).detach())
    return found | {"a_step": clock.parts["step"]}


def measured(command):
    """One round: what a fresh process says of itself."""
    # Threads of PyTorch that wait would count as CPU time; TensorFlow's sleep.
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "GOMP_SPINCOUNT": "0"}
    command = [*command[:3], repr(time.time()), *command[3:]]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def medians(rounds):
    """{"wall_s", "cpu_s"} of each part and in all, medians of the rounds."""

    def both(pairs):
        wall, cpu = (statistics.median(each) for each in zip(*pairs, strict=True))
        return {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}

    for one in rounds:
        one["parts"]["other"] = [
            total - sum(part[place] for part in one["parts"].values())
            for place, total in enumerate(one["total"])
        ]
    parts = {name: both([one["parts"][name] for one in rounds]) for name in rounds[0]["parts"]}
    total = both([one["total"] for one in rounds])
    walls = [one["total"][0] for one in rounds]
    spread = {"smallest_wall_s": round(min(walls), 3), "largest_wall_s": round(max(walls), 3)}
    later = {key: both([one[key] for one in rounds]) for key in ("a_step", "untrained")}
    return total | spread | {"parts": parts} | later


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", action="store_true", help="PyTorch instead of ours")
    parser.add_argument("--json", action="store_true")
    options, flags = parser.parse_known_args()
    side = f"--{'torch' if options.torch else 'ours'}-worker"
    command = [sys.executable, os.path.abspath(__file__), side, options.recipe, *flags]
    result = {"recipe": options.recipe, "flags": flags, "n": options.rounds}
    result |= medians([measured(command) for _ in range(options.rounds)])
    if options.json:
        print(json.dumps(result))
        return
    lines = result["parts"] | {"all": result, "a later step": result["a_step"]}
    lines["untrained encoder, after step 1"] = result["untrained"]
    for name, both in lines.items():
        print(f"{name:34}{both['wall_s']:8.2f} s{both['cpu_s']:8.2f} s of the CPU")


WORKERS = {"--ours-worker": until_first_step, "--torch-worker": until_first_step_of_torch}

if __name__ == "__main__":
    if WORKERS.keys() & sys.argv[1:2]:
        print(json.dumps(WORKERS[sys.argv[1]](float(sys.argv[2]), sys.argv[3:])))
    else:
        main()
