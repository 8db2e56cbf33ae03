"""Our training step against the official one in PyTorch: images/s of wall time, in turns.

    python benchmarks/step_vs_pytorch.py --json
    python benchmarks/step_vs_pytorch.py --encoder resnet50 --stem imagenet --image-size 224 \
        --batch-size 16 --queue-size 65536
    python benchmarks/step_vs_pytorch.py --encoder vit_small --image-size 224 --batch-size 32

A ViT is trained by MoCo v3 (recipe moco-v3-vit-s), a ResNet with `--v3` too (moco-v3-r50-100ep).
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
RESNETS = ("resnet18", "resnet50")
VITS = {"vit_tiny": (192, 3), "vit_small": (384, 12)}  # width, heads


def main() -> None:
    options = _options()
    if options.worker:
        _work(options)
        return
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items()
             if name not in ("worker", "json", "sides", "v3")]  # fmt: skip
    flags += ["--v3"] if options.v3 else []
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
    parser.add_argument("--encoder", default="resnet18", choices=[*RESNETS, *VITS])
    parser.add_argument("--v3", action="store_true", help="MoCo v3; a ViT has no other")
    parser.add_argument("--stem", default="small", choices=["small", "imagenet"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--queue-size", type=int, default=4096)
    parser.add_argument("--head", default="mlp", choices=["linear", "mlp"])
    precisions = ["float32", "tf32", "mixed_bfloat16"]
    parser.add_argument("--precision", default="float32", choices=precisions)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of PyTorch, v2")
    parser.add_argument("--xla", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--worker", choices=SIDES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.worker and (options.device != "cpu" or options.precision == "tf32"):
        parser.error("--device cuda and --precision tf32 are for gpu/run.py, which starts workers")
    return options


def _work(options: argparse.Namespace) -> None:
    serve(*(_ours if options.worker == "ours" else _torch)(options))


def _ours(options):
    from dataclasses import asdict

    from moco_tf.benchmark.rounds import step_rounds
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    recipe, fields = "moco-v2", ["encoder", "image_size", "batch_size", "precision", "xla"]
    if options.encoder in VITS:
        recipe = "moco-v3-vit-s"
    else:
        fields += ["stem", "width"]
        recipe = "moco-v3-r50-100ep" if options.v3 else recipe
    if recipe == "moco-v2":
        fields += ["queue_size", "head"]
    changes = {name: getattr(options, name) for name in fields} | {"augment_on": "host"}
    changes |= {"group_size": options.batch_size}  # whole views come
    config = make_config(RECIPES[recipe].config, changes)
    one_round, first = step_rounds(config, steps=options.steps)
    one_round()
    return lambda: asdict(one_round()) | peak_memory(), {"first": first, "versions": versions()}


def _torch(options):
    import time

    import torch

    started, device = time.perf_counter(), options.device
    torch.backends.cuda.matmul.allow_tf32 = options.precision != "float32"
    torch.backends.cudnn.allow_tf32 = options.precision != "float32"
    torch.backends.cudnn.benchmark = True
    v3 = options.v3 or options.encoder in VITS
    one_step = (torch_v3 if v3 else torch_v2)(options)
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    views = [torch.randn(shape).to(device, memory_format=torch.channels_last) for _ in range(2)]
    casting = torch.autocast(device, torch.bfloat16, enabled=options.precision == "mixed_bfloat16")

    def work(steps=options.steps):
        with casting:
            for _ in range(steps):
                loss = one_step(*views)
        float(loss.detach())
        return steps * options.batch_size

    work(1)
    first = time.perf_counter() - started
    work()
    if device == "cpu":
        peak, about = dict, {}
    else:
        peak = lambda: {"peak_memory_bytes": torch.cuda.max_memory_allocated()}  # noqa: E731
        about = {"device": torch.cuda.get_device_name()}
    ready = {"first": first, "versions": {"torch": torch.__version__}} | about
    return lambda: timed(work) | peak(), ready


def torch_v2(options):
    """The official step, a function of two views."""
    from torch_moco import TorchMoCo

    return TorchMoCo(
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
        device=options.device,
    ).step


def torch_v3(options, mlp_dim=4096):
    """The step of MoCo v3, a function of two views."""
    from torch_moco import STRUCTURES, resnet
    from torch_moco_v3 import AdamW, Attention, Lars, MoCoV3, Training, moco_v3, perceptron

    Attention.fused = True
    if options.encoder in VITS:
        width, heads = VITS[options.encoder]
        s = {"kind": "vit", "width": width, "heads": heads, "depth": 12, "patch": 16, "dim": 256}
        s |= {"size": options.image_size, "mlp_dim": mlp_dim, "stop_grad_conv1": True}
        model, temperature = moco_v3(s), 0.2
    else:
        features = options.width * 8 * STRUCTURES[options.encoder][2]
        projector = perceptron([features, mlp_dim, 256], last_norm=True)
        base = resnet(options.encoder, projector, width=options.width, stem=options.stem)
        predictor = perceptron([256, mlp_dim, 256], last_norm=False)
        model, temperature = MoCoV3(base, predictor), 1.0
    parameters = [p for p in model.parameters() if p.requires_grad]
    vit = options.encoder in VITS
    optimizer = AdamW(parameters, 0.1) if vit else Lars(parameters, 0.9, 1e-6)
    training = Training(model, optimizer, temperature, compiled=options.worker == "compiled")
    return lambda x1, x2: training.step(x1, x2, rate=1e-4, momentum=0.99)


if __name__ == "__main__":
    main()
