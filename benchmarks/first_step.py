"""From the command to the end of the first step: which parts take how long, in fresh processes.

    python benchmarks/first_step.py shapes --rounds 5 --json
    python benchmarks/first_step.py moco-v2 --data PHOTOS --batch-size 8

RECIPE and the flags behind it are those of `moco-tf pretrain`. Parts are in the order in which they
begin; "other" is what lies between them. CPU seconds are of all threads of the process, so where
two parts run at once they are in both.
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
            found["total"], found["parts"] = clock.total(), dict(clock.parts)
        if len(steps) == LAST_STEP:
            raise Done

    PretrainingJob.step = waited
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["moco-tf", "pretrain", *arguments, "--run-dir", os.path.join(folder, "run")]
        sys.argv += ["--max-steps", str(LAST_STEP), "--json"]
        try:
            code = main()
        except Done:
            return found | {"step": clock.parts[f"step {LAST_STEP}"]}
    raise SystemExit(code)


def measured(command):
    """One round: what a fresh process says of itself."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*command[:2], "--worker", repr(time.time()), *command[2:]]
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
    return total | spread | {"parts": parts, "a_step": both([one["step"] for one in rounds])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options, flags = parser.parse_known_args()
    command = [sys.executable, os.path.abspath(__file__), options.recipe, *flags]
    result = {"recipe": options.recipe, "flags": flags, "n": options.rounds}
    result |= medians([measured(command) for _ in range(options.rounds)])
    if options.json:
        print(json.dumps(result))
        return
    lines = result["parts"] | {"all": result, "a later step": result["a_step"]}
    for name, both in lines.items():
        print(f"{name:34}{both['wall_s']:8.2f} s{both['cpu_s']:8.2f} s of the CPU")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(until_first_step(float(sys.argv[2]), sys.argv[3:])))
    else:
        main()
