"""Where the time of a training step goes: op time by kind, and the machine's own ceilings.

    python benchmarks/profile_step.py --json
    python benchmarks/profile_step.py --encoder resnet50 --stem imagenet --image-size 224 \
        --batch-size 16 --queue-size 65536

TensorFlow's profiler records every op of a few steps. Ops of a CPU run side by side, so op times
are given as shares of their sum. Beside them: the arithmetic of the convolutions a second (multiply
and add are two operations) over the whole step, and the most that products of square matrices
reach on the same cores just before.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

KINDS = {
    "convolutions, forward": r"(Fused|PadWith|PadWithFused)?Conv2D",
    "convolutions, gradient of the kernel": r"Conv2DBackpropFilter",
    "convolutions, gradient of the input": r"Conv2DBackpropInput",
    "BatchNorm, forward": r"FusedBatchNorm(V3|Ex)",
    "BatchNorm, backward": r"FusedBatchNormGrad(V3|Ex)",
    "ReLU, pooling, padding": r"Relu|ReluGrad|(Max|Avg)Pool.*|Pad|Mean",
    "matrix products": r"(Batch|Fused)?MatMul(V2)?",
    "sums, products, assignments": r"Add.*|AssignVariableOp|Mul|Sub|RealDiv|Sum|BiasAdd.*",
    "copies and rows": r"Concat.*|.*Slice.*|Gather.*|Transpose|Split.*|Pack|Unpack|Reverse.*",
}
OP = re.compile(r"[^:]+:(?:_MklNative|_Mkl|_)?([A-Z]\w*)$")  # name:Type; oneDNN's have its prefix


def main() -> None:
    options = _options()
    result = _profile(options)
    if options.json:
        print(json.dumps(result))
        return
    print("| kind of op | share of op time |\n|---|---|")
    for kind, share in result["shares"].items():
        print(f"| {kind} | {share:.1%} |")
    print(
        f"\n{result['step_seconds']:.3f} s a step, n = {result['n']}: "
        f"{result['convolution_gigaflops_per_step']:.1f} Gflop of convolutions, "
        f"{result['gigaflops_per_second']:.0f} Gflop/s over the whole step; matrix products reach "
        f"{result['matrix_product_gigaflops_per_second']:.0f} Gflop/s."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--stem", default="small", choices=["small", "imagenet"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--queue-size", type=int, default=4096)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=3, help="that are recorded")
    parser.add_argument("--rounds", type=int, default=5, help="that are timed, of as many steps")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _profile(options) -> dict:
    from moco_tf.api.starting import start_tensorflow
    from moco_tf.commands.quiet import be_quiet

    be_quiet()
    start_tensorflow()
    import tensorflow as tf

    from moco_tf.benchmark.rounds import step_rounds
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    fields = ("encoder", "stem", "width", "image_size", "batch_size", "queue_size", "precision")
    changes = {name: getattr(options, name) for name in fields}
    changes |= {"group_size": options.batch_size, "augment_on": "host"}  # whole views come
    config = make_config(RECIPES["moco-v2"].config, changes)
    one_round, _ = step_rounds(config, steps=options.steps)
    one_round()
    peak = _matrix_product_flops(tf)
    seconds = statistics.median(one_round().seconds / options.steps for _ in range(options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        one_round()
        tf.profiler.experimental.stop()
        times = _op_times(folder)
    flops = _convolution_flops(config)
    return {
        "settings": {k: v for k, v in vars(options).items() if k != "json"},
        "shares": _shares(times),
        "step_seconds": seconds,
        "n": options.rounds,
        "convolution_gigaflops_per_step": flops / 1e9,
        "gigaflops_per_second": flops / seconds / 1e9,
        "matrix_product_gigaflops_per_second": peak / 1e9,
        "versions": versions(),
    }


def _op_times(folder: str) -> Counter:
    """Seconds of each type of op, over all threads, in the recorded steps."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    times: Counter = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                op = OP.match(plane.event_metadata[event.metadata_id].name)
                if op:
                    times[op.group(1)] += event.duration_ps / 1e12
    return times


def _shares(times: Counter) -> dict[str, float]:
    total = sum(times.values())
    shares: Counter = Counter()
    for op, seconds in times.items():
        kind = next((k for k, pattern in KINDS.items() if re.fullmatch(pattern, op)), None)
        shares[kind or "everything else"] += seconds / total
    return dict(shares.most_common())


def _convolution_flops(config) -> float:
    """Of one step: the keys' forward pass, and the queries' with its two gradients."""
    from moco_tf.building import build_method, build_strategy

    model = build_method(config, build_strategy(config)).query.model
    forward, first = 0.0, 0.0
    for layer in model.layers:
        if type(layer).__name__ == "Conv2D":
            _, height, width, _ = layer.output.shape
            flops = 2.0 * height * width * layer.kernel.shape.num_elements() * config.batch_size
            forward += flops
            first = first or flops  # the images have no gradient
    return 4 * forward - first


def _matrix_product_flops(tf, side: int = 2048, rounds: int = 7) -> float:
    a, b = (tf.random.stateless_normal([side, side], [0, seed]) for seed in (1, 2))
    product = tf.function(tf.matmul)
    float(product(a, b)[0, 0])
    best = []
    for _ in range(rounds):
        started = time.perf_counter()
        float(product(a, b)[0, 0])
        best.append(time.perf_counter() - started)
    return 2 * side**3 / min(best)


if __name__ == "__main__":
    main()
