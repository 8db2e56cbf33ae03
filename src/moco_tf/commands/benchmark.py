"""`moco-tf benchmark`."""

import json

from moco_tf.commands.flags import add_field
from moco_tf.commands.pretrain import resolve_config
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.config import RECORDED_FIELDS, Config


def add(commands) -> None:
    """Adds the command to the subparsers."""
    benchmark = commands.add_parser(
        "benchmark", help="images/s of the input path, the step, or both", allow_abbrev=False
    )
    benchmark.add_argument("what", choices=["input", "step", "train"])
    benchmark.add_argument(
        "recipe", nargs="?", help="[by the data; none given: shapes]", metavar="RECIPE"
    )
    benchmark.add_argument(
        "--config", metavar="FILE", help="fields from a YAML file, or a run's config.json"
    )
    benchmark.add_argument("--steps", type=int, default=5, help="batches in a round [5]")
    benchmark.add_argument("--rounds", type=int, default=7, help="rounds measured [7]")
    for name, field in Config.model_fields.items():
        if name not in ("recipe", "run_dir", "max_steps", *RECORDED_FIELDS):
            add_field(benchmark, name, field)
    benchmark.set_defaults(run=_benchmark)


def _benchmark(options) -> int:
    flags = {name: value for name, value in vars(options).items() if name in Config.model_fields}
    flags.pop("recipe")
    said: list[str] = []
    config = resolve_config(options.recipe, options.config, flags, runs=False, say=said.append)
    check_data(config.data)
    start_tensorflow()
    from moco_tf.benchmark.command import benchmark
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=options.json)
    for line in said:
        reporter.line(line)
    result = benchmark(
        options.what, config, steps=options.steps, rounds=options.rounds, line=reporter.line
    )
    if options.json:
        print(json.dumps(result))
        return 0
    wait = f", waiting {100 * result['data_wait']:.0f}%" if "data_wait" in result else ""
    reporter.line(
        f"{result['images_per_second']:.2f} images/s{wait}, "
        f"{1000 * result['cpu_seconds_per_image']:.2f} ms of CPU an image, peak memory "
        f"{result['peak_memory_bytes'] / 1e9:.2f} GB; median of {result['n']} rounds of "
        f"{options.steps} batches of {config.batch_size}"
    )
    return 0
