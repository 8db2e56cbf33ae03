"""`moco-tf benchmark`."""

import sys
from typing import Literal

from moco_tf.api import starting
from moco_tf.api.settings import resolve_config
from moco_tf.commands.flags import add_recipe
from moco_tf.commands.parser import Outcome, Parser


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    parts = ["input", "step", "train"]
    command.add_argument("what", metavar="WHAT", choices=parts, help=", ".join(parts))
    command.add_argument("--steps", type=int, default=5, metavar="N", help="batches in a round [5]")
    command.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds measured [7]")
    add_recipe(command, without=("run_dir", "max_steps"))


def run(
    what: Literal["input", "step", "train"],
    recipe: str | None,
    config: str | None,
    steps: int,
    rounds: int,
    json: bool,
    **flags,
) -> Outcome:
    out = sys.stderr if json else sys.stdout
    settings = resolve_config(
        recipe, config, flags, runs=False, say=lambda line: print(line, file=out, flush=True)
    )
    starting.check_data(settings.data)
    starting.start_tensorflow()
    from moco_tf.benchmark.command import benchmark
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json)
    result = benchmark(what, settings, steps=steps, rounds=rounds, line=reporter.line)
    wait = f", waiting {100 * result['data_wait']:.0f}%" if "data_wait" in result else ""
    text = (
        f"{result['images_per_second']:.2f} images/s{wait}, "
        f"{1000 * result['cpu_seconds_per_image']:.2f} ms of CPU an image, peak memory "
        f"{result['peak_memory_bytes'] / 1e9:.2f} GB; median of {result['n']} rounds of "
        f"{steps} batches of {settings.batch_size}"
    )
    return result, text, True
