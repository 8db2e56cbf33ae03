"""`moco-tf estimate`."""

import sys
from typing import Any

from moco_tf.api import starting
from moco_tf.api.settings import resolve_config
from moco_tf.commands.flags import add_recipe
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.training.advice import Suggestion


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    add_recipe(command)


def run(recipe: str | None, config: str | None, json: bool, **flags) -> Outcome:
    out = sys.stderr if json else sys.stdout
    settings = resolve_config(
        recipe, config, flags, say=lambda line: print(line, file=out, flush=True)
    )
    starting.check_data(settings.data)
    starting.start_tensorflow()
    from moco_tf.benchmark.estimate import estimate
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json)
    result = estimate(settings, line=reporter.line)
    return result, "\n".join(lines(result)), True


def lines(result: dict[str, Any]) -> list[str]:
    """The result as sentences, with one line for each suggestion."""
    seconds = result["seconds"]
    memory = result["memory_bytes"]
    card = result["gpu_memory_bytes"]
    said = [
        f"{result['images_per_second']:.1f} images/s; an epoch of {result['steps_per_epoch']} "
        f"steps {duration(result['seconds_per_epoch'])}, the run of {result['steps_total']} steps "
        f"{duration(result['seconds_total'])}",
        f"of that: start {duration(seconds['start'])}, steps {duration(seconds['steps'])}, kNN "
        f"({result['knn_evaluations']} while training, untrained encoder and plain pixels before) "
        f"{duration(seconds['knn'])}, label-free signals {duration(seconds['label_free'])}, "
        f"checkpoints {duration(seconds['checkpoints'])}",
        f"limit: {result['limits']} (the input takes {result['input_share']:.0%} of the time of "
        f"input and step, each alone; waiting for data {result['data_wait']:.0%}), "
        f"{1000 * result['cpu_seconds_per_image']:.2f} ms of CPU an image",
        f"peak memory {size(result['peak_memory_bytes'])}"
        + (f" of {size(memory)} that can be had" if memory else "")
        + (f", on the GPU {size(result['gpu_peak_memory_bytes'])} of {size(card)}" if card else ""),
        f"a checkpoint {size(result['checkpoint_bytes'])}, the run folder up to "
        f"{size(result['disk_bytes'])}",
        f"the queue holds keys of {result['queue_epochs']:.2g} epochs",
        f"medians of n = {result['n']} rounds",
    ]
    said += [Suggestion(**one).line for one in result["suggestions"]]
    return said if result["suggestions"] else [*said, "nothing is off in the config"]


def duration(seconds: float) -> str:
    """Seconds as a person says them: "41 s", "2 min 29 s", "53 h 10 min", "8 d 20 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 4 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(count: int) -> str:
    """Bytes in MB or GB, powers of ten."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
