"""Our training step against the official one in PyTorch: images/s of wall time, in turns.

    python benchmarks/step_vs_pytorch.py --json
    python benchmarks/step_vs_pytorch.py --encoder resnet50 --stem imagenet --image-size 224 \
        --batch-size 16 --queue-size 65536

Needs torch. Each side is a process of its own, PyTorch's without TensorFlow; both use all cores,
one at a time.
"""

import argparse
import json
import os
import platform
import sys

from alternate import measure, peak_memory, ratios, serve, speed, timed

SIDES = ("ours", "pytorch", "compiled")


def main() -> None:
    options = _options()
    if options.worker:
        _work(options)
        return
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items()
             if name not in ("worker", "json", "sides")]  # fmt: skip
    command = [sys.executable, os.path.abspath(__file__), *flags, "--worker"]
    said = measure({side: [*command, side] for side in options.sides}, options.rounds)
    result = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("worker", "json")},
        "ours": speed(said["ours"]),
        "versions": {k: v for s in said.values() for k, v in s["ready"]["versions"].items()}
        | {"python": platform.python_version()},
    }
    for side in options.sides[1:]:
        name = "peer" if side == "pytorch" else "peer_compiled"
        result[name] = speed(said[side])
        compared = ratios(said["ours"]["rounds"], said[side]["rounds"])
        result |= compared if side == "pytorch" else {"compiled": compared}
    if options.json:
        print(json.dumps(result))
        return
    for name in ("ours", "peer", "peer_compiled"):
        if name in result:
            side = result[name]
            print(
                f"{name}: {side['images_per_second']:.2f} images/s, peak "
                f"{side['peak_memory_bytes'] / 1e9:.2f} GB, first step {side['first']:.1f} s"
            )
    print(f"ours / PyTorch {result.get('ratio_median', float('nan')):.3f}, n = {options.rounds}")
    if "compiled" in result:
        print(f"ours / torch.compile {result['compiled']['ratio_median']:.3f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--stem", default="small", choices=["small", "imagenet"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--queue-size", type=int, default=4096)
    parser.add_argument("--head", default="mlp", choices=["linear", "mlp"])
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--xla", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--worker", choices=SIDES)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _work(options: argparse.Namespace) -> None:
    serve(*(_ours if options.worker == "ours" else _torch)(options))


def _ours(options):
    from dataclasses import asdict

    from moco_tf.benchmark.rounds import step_rounds
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    fields = ("encoder", "stem", "width", "image_size", "batch_size", "queue_size", "head",
              "precision", "xla")  # fmt: skip
    changes = {name: getattr(options, name) for name in fields}
    changes |= {"group_size": options.batch_size, "augment_on": "host"}  # whole views come
    config = make_config(RECIPES["moco-v2"].config, changes)
    one_round, first = step_rounds(config, steps=options.steps)
    one_round()
    return lambda: asdict(one_round()) | peak_memory(), {"first": first, "versions": versions()}


def _torch(options):
    import time

    import torch
    from torch_moco import TorchMoCo

    started = time.perf_counter()
    moco = TorchMoCo(
        options.encoder,
        stem=options.stem,
        width=options.width,
        mlp=options.head == "mlp",
        dim=128,
        queue_size=options.queue_size,
        momentum=0.999,
        temperature=0.2,
        lr=0.03 * options.batch_size / 256,
        weight_decay=1e-4,
        compiled=options.worker == "compiled",
    )
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    views = [torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2)]
    casting = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "mixed_bfloat16")

    def work(steps=options.steps):
        with casting:
            for _ in range(steps):
                loss = moco.step(*views)
        float(loss.detach())
        return steps * options.batch_size

    work(1)
    first = time.perf_counter() - started
    work()
    return lambda: timed(work), {"first": first, "versions": {"torch": torch.__version__}}


if __name__ == "__main__":
    main()
