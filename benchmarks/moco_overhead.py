"""The share of a training step that is MoCo's own, beside the bare work of its two encoders.

    python benchmarks/moco_overhead.py --json
    python benchmarks/moco_overhead.py --encoder resnet18 --stem small --image-size 32 \
        --batch-size 64 --queue-size 4096

Bare: the key encoder forward, the query encoder forward, and backward from the mean of its output,
both with batch statistics that are kept. The whole step has besides: shuffle, momentum update,
logits and loss over the queue, enqueueing, SGD, and the numbers that are logged. Whole and bare run
in turns in processes of their own; then each of MoCo's parts is timed alone, parts in turns, in a
third one. Alone, a part has the caches and the cores for itself, so that the parts need not add up
to the difference.
"""

import argparse
import json
import os
import statistics
import sys
import time

from alternate import measure, serve

PART_SECONDS = 0.2  # of a round of one part, so that the clock is no part of it


def main() -> None:
    options = _options()
    if options.worker:
        _work(options)
        return
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker"]
    said = measure({side: [*command, side] for side in ("whole", "bare")}, options.rounds)
    parts = measure({"parts": [*command, "parts"]}, options.rounds)["parts"]
    whole, bare = (
        [one["seconds"] / options.steps for one in said[side]["rounds"]] for side in said
    )
    shares = [1 - b / w for w, b in zip(whole, bare, strict=True)]
    result = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("worker", "json")},
        "whole_seconds": statistics.median(whole),
        "bare_seconds": statistics.median(bare),
        "share_median": statistics.median(shares),
        "share_min": min(shares),
        "share_max": max(shares),
        "parts_seconds": {
            name: statistics.median(one[name] for one in parts["rounds"])
            for name in parts["rounds"][0]
        },
        "n": len(shares),
        "versions": said["whole"]["ready"]["versions"],
    }
    print(json.dumps(result) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--stem", default="imagenet", choices=["small", "imagenet"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--group-size", type=int, help="none: two groups")
    parser.add_argument("--queue-size", type=int, default=65536)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--xla", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--steps", type=int, default=3, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", choices=["whole", "bare", "parts"], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _table(result: dict) -> str:
    whole = result["whole_seconds"]
    lines = ["| | ms a step | of the whole |", "|---|---|---|"]
    named = {"whole step": whole, "bare encoders": result["bare_seconds"]}
    for name, seconds in (named | result["parts_seconds"]).items():
        lines.append(f"| {name} | {1000 * seconds:.2f} | {seconds / whole:.1%} |")
    spread = f"{result['share_min']:.1%} to {result['share_max']:.1%}"
    lines += ["", f"MoCo's own: {result['share_median']:.1%} ({spread}), n = {result['n']}."]
    return "\n".join(lines)


def _work(options: argparse.Namespace) -> None:
    from moco_tf.api.starting import start_tensorflow
    from moco_tf.commands.quiet import be_quiet

    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # or its first lines are shown
    be_quiet()
    start_tensorflow()
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    fields = ("encoder", "stem", "width", "image_size", "batch_size", "queue_size", "precision",
              "xla")  # fmt: skip
    changes = {name: getattr(options, name) for name in fields}
    changes |= {
        "group_size": options.group_size or options.batch_size // 2,
        "augment_on": "host",  # whole views come
    }
    config = make_config(RECIPES["moco-v2"].config, changes)
    one_round = {"whole": _whole, "bare": _bare, "parts": _parts}[options.worker](config, options)
    one_round()
    serve(one_round, {"versions": versions()})


def _whole(config, options):
    from dataclasses import asdict

    from moco_tf.benchmark.rounds import step_rounds

    one_round, _ = step_rounds(config, steps=options.steps)
    return lambda: asdict(one_round())


def _method(config):
    from moco_tf.building import build_method, build_strategy

    return build_method(config, build_strategy(config.model_copy(update={"devices": 1})))


def _views(config):
    import numpy as np
    import tensorflow as tf

    shape = (2, config.batch_size, config.image_size, config.image_size, 3)
    pixels = np.random.default_rng(config.seed).integers(0, 256, shape, np.uint8)
    return [tf.constant(view) for view in pixels]


def _bare(config, options):
    from dataclasses import asdict

    import tensorflow as tf

    from moco_tf.benchmark.rounds import timed
    from moco_tf.building import use_xla

    method, views = _method(config), _views(config)

    def forward(model, parameters, statistics, images):
        images = method.envelope.preprocess(images)
        output, statistics = model.stateless_call(parameters, statistics, images, training=True)
        return tf.cast(output, tf.float32), statistics

    @tf.function(jit_compile=use_xla(config))
    def keys_of(parameters, statistics, images):
        return forward(method.key.model, parameters, statistics, images)

    @tf.function(jit_compile=use_xla(config))
    def gradients_of(parameters, statistics, images):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            output, statistics = forward(method.query.model, parameters, statistics, images)
            loss = tf.reduce_mean(output)
        return loss, tape.gradient(loss, parameters), statistics

    def kept(model, statistics):
        for variable, value in zip(model.non_trainable_variables, statistics, strict=True):
            variable.value.assign(value)

    def statistics_of(model):
        return [tf.identity(v.value) for v in model.non_trainable_variables]

    @tf.function
    def step(view1, view2):
        keys, statistics = keys_of(
            [tf.identity(p) for p in method.key.parameters], statistics_of(method.key.model), view2
        )
        kept(method.key.model, statistics)
        loss, gradients, statistics = gradients_of(
            [tf.identity(p) for p in method.query.parameters],
            statistics_of(method.query.model),
            view1,
        )
        kept(method.query.model, statistics)
        return loss, keys, gradients  # returned: or they would not be computed

    def work():
        for _ in range(options.steps):
            loss, _, _ = step(*views)
        float(loss)
        return options.steps * config.batch_size

    return lambda: asdict(timed(work))


def _parts(config, options):
    """Returns a function: one round of every part -> {part: seconds of one step}."""
    import tensorflow as tf

    from moco_tf.methods.loss import info_nce, queue_logits, top_k_accuracy, unit_norm
    from moco_tf.methods.momentum import momentum_update
    from moco_tf.methods.queue import enqueue
    from moco_tf.methods.shuffle import random_permutation, unshuffle
    from moco_tf.training.accumulation import pick
    from moco_tf.training.sgd import sgd_update

    method, views = _method(config), _views(config)
    batch, rows = config.batch_size, method.envelope.rows
    queries, keys = (
        unit_norm(tf.random.stateless_normal([batch, config.dim], [0, seed])) for seed in (1, 2)
    )
    logits = queue_logits(queries, keys, tf.identity(method.queue), config.temperature)
    gradients = [tf.random.stateless_normal(p.shape, [0, 3]) for p in method.query.parameters]

    def shuffling():
        permutation = random_permutation(config.seed, method.pointer, 1, batch)[0]
        shuffled = pick(views[1], tf.gather(permutation, rows[0, 0]))
        return shuffled, unshuffle(keys, permutation, rows)

    def momentum():
        for key, query in zip(method.key.parameters, method.query.parameters, strict=True):
            key.assign(momentum_update(key, query, config.key_momentum))

    def compare():
        with tf.GradientTape() as tape:
            tape.watch(queries)
            made = queue_logits(queries, keys, tf.identity(method.queue), config.temperature)
            loss = tf.reduce_mean(info_nce(made))
        return loss, tape.gradient(loss, queries)

    def logged():
        top = [top_k_accuracy(logits, k) for k in (1, 5)]
        return *top, tf.reduce_mean(logits[:, 0]), tf.reduce_mean(logits[:, 1:])

    def enqueued():
        method.queue.assign(enqueue(method.queue, method.pointer, keys)[0])
        method.pointer.assign((method.pointer + batch) % method.queue.shape[0])

    def sgd():
        for parameter, buffer, gradient in zip(
            method.query.parameters,
            method.envelope.optimizer.slots["momentum"],
            gradients,
            strict=True,
        ):
            new, new_buffer = sgd_update(
                parameter, buffer, gradient, 1e-6, momentum=config.sgd_momentum,
                weight_decay=config.weight_decay,
            )  # fmt: skip
            buffer.assign(new_buffer)
            parameter.assign(new)

    named = {
        "shuffle": shuffling,
        "momentum update": momentum,
        "logits and loss, both ways": compare,
        "logged numbers": logged,
        "enqueue": enqueued,
        "SGD": sgd,
    }
    parts = {name: _waited_for(tf.function(part), tf) for name, part in named.items()}
    times = {name: _times(part) for name, part in parts.items()}

    def one_round():
        return {name: _seconds(part, times[name]) for name, part in parts.items()}

    return one_round


def _waited_for(part, tf):
    """The part, run so many times; the device has done all of it when this returns."""
    end = tf.constant(0.0)

    def run(times):
        for _ in range(times):
            part()
        (end + 1).numpy()  # comes after them on the device; on the host they are done already

    return run


def _times(part) -> int:
    """How often the part runs in `PART_SECONDS`; it is traced and warm afterwards."""
    part(2)
    return max(1, round(PART_SECONDS / _seconds(part, 3)))


def _seconds(part, times: int) -> float:
    started = time.perf_counter()
    part(times)
    return (time.perf_counter() - started) / times


if __name__ == "__main__":
    main()
