"""Our training step as StableHLO, for a machine with JAX and without TensorFlow.

    python benchmarks/gpu/export.py step                                      # to be timed
    python benchmarks/gpu/export.py demo --data cifar10.tar.xz                # to be trained

Needs TensorFlow and JAX; runs on the CPU. Each writes programs of some 100 KB into --out, with the
names of what goes in and comes out and how the first weights are drawn; see README.md.
"""

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from lowering import lower

from moco_tf.building import build_method, build_schedule, build_strategy
from moco_tf.config import make_config
from moco_tf.data.augment.views import DRAWS
from moco_tf.data.sources import from_arrays
from moco_tf.evaluate.features import embedding
from moco_tf.methods.shuffle import random_permutation
from moco_tf.recipes import RECIPES

FEATURE_BATCH = 500
PRECISIONS = ("float32", "tf32", "mixed_bfloat16")
STEP = ("encoder", "stem", "width", "image_size", "batch_size", "queue_size", "head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step", help="the step of moco-v2 on whole views")
    step.add_argument("--encoder", default="resnet50")
    step.add_argument("--stem", default="imagenet", choices=["small", "imagenet"])
    step.add_argument("--width", type=int, default=64)
    step.add_argument("--image-size", type=int, default=224)
    step.add_argument("--batch-size", type=int, default=256)
    step.add_argument("--queue-size", type=int, default=65536)
    step.add_argument("--head", default="mlp", choices=["linear", "mlp"])
    step.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    demo = commands.add_parser("demo", help="the step of cifar10-demo on images on the device")
    demo.add_argument("--data", type=Path, help="tar of {train,test}/CLASS/*.jpg, to go along")
    demo.add_argument("--images", type=int, default=50000)
    demo.add_argument("--width", type=int, default=64)
    demo.add_argument("--batch-size", type=int, default=512)
    demo.add_argument("--epochs", type=int, default=200)
    demo.add_argument("--precision", default="tf32", choices=PRECISIONS)
    for one in (step, demo):
        one.add_argument("--out", type=Path, default=Path("build/gpu"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    (export_step if options.command == "step" else export_demo)(options)
    size = sum(path.stat().st_size for path in options.out.iterdir() if path.is_file())
    print(f"{time.perf_counter() - started:.0f} s; {options.out} holds {size / 1e6:.1f} MB")


def export_step(options: argparse.Namespace) -> None:
    """One program for each precision: step-PRECISION."""
    settings = {name: getattr(options, name) for name in STEP}
    for precision in options.precisions:
        changes = settings | {"group_size": options.batch_size, "augment_on": "host"}
        config = configured("moco-v2", precision, changes)
        method = build_method(config, build_strategy(config))
        program = step_program(config, method)
        facts = {"settings": settings | {"precision": precision}}
        program.write(options.out / f"step-{precision}", start=start(variables(method)), **facts)


def export_demo(options: argparse.Namespace) -> None:
    """The programs demo, which crops and augments as well, and features; the data beside them."""
    sizes = {name: getattr(options, name) for name in ("width", "batch_size", "epochs")}
    config = configured("cifar10-demo", options.precision, sizes)
    method, pixels = demo_method(config, options.images)
    epoch_steps = options.images // config.batch_size
    rate = build_schedule(config, epoch_steps)
    facts = {
        "settings": sizes | {"images": options.images, "precision": options.precision},
        "rates": [rate(epoch * epoch_steps) for epoch in range(config.epochs)],
        "knn": {"k": config.knn_k, "temperature": config.knn_temperature},
        "draws": DRAWS,
    }
    program = demo_program(config, method, pixels)
    program.write(options.out / "demo", start=start(variables(method)), **facts)
    features = features_program(config, method)
    features.write(options.out / "features", batch_size=FEATURE_BATCH)
    if options.data:
        shutil.copy(options.data, options.out / "images.tar.xz")


def configured(recipe: str, precision: str, changes: dict):
    """The config; in programs made after this, products of float32 are exact if it says so."""
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    return make_config(
        RECIPES[recipe].config,
        changes | {"precision": "float32" if precision == "tf32" else precision, "devices": 1},
    )


def step_program(config, method):
    """The whole step on two views, uint8 [B, S, S, 3]."""
    views = tf.TensorSpec([config.batch_size, config.image_size, config.image_size, 3], tf.uint8)

    def step(view1, view2, number, rate):
        order = random_permutation(config.seed, number, 1, config.batch_size)
        return method.train_step(view1, view2, order, rate)[0]

    return lower(step, {"view1": views, "view2": views} | SCHEDULED, variables(method))


def demo_method(config, images: int):
    """The method, and the variable of all images, uint8 [images, S, S, 3], that it looks into."""
    shape, made = (images, config.image_size, config.image_size, 3), []

    def note(next_creator, **arguments):
        made.append(next_creator(**arguments))
        return made[-1]

    with tf.variable_creator_scope(note):
        train = from_arrays("images", np.zeros(shape, np.uint8))
        method = build_method(config, build_strategy(config), train)
    return method, next(variable for variable in made if variable.dtype == tf.uint8)


def demo_program(config, method, pixels):
    """The whole step on images by their places, int64 [B], and draws in [0, 1), [B, DRAWS]."""
    draws = tf.TensorSpec([config.batch_size, DRAWS], tf.float32)
    places = tf.TensorSpec([config.batch_size], tf.int64)

    def step(places, draws1, draws2, number, rate):
        order = random_permutation(config.seed, number, 1, config.batch_size)
        return method.train_step((places, draws1), (places, draws2), order, rate)[0]

    specs = {"places": places, "draws1": draws, "draws2": draws} | SCHEDULED
    return lower(step, specs, variables(method) | {"pixels": pixels})


def features_program(config, method):
    """Unit features of images, uint8 [FEATURE_BATCH, S, S, 3], for kNN."""
    embed = embedding(
        method.query.encoder, features=config.knn_features, normalization=config.normalization
    )
    shape = [FEATURE_BATCH, config.image_size, config.image_size, 3]
    return lower(
        lambda images: {"features": tf.math.l2_normalize(embed(images), axis=1)},
        {"images": tf.TensorSpec(shape, tf.uint8)},
        variables(method),
    )


SCHEDULED = {"number": tf.TensorSpec([], tf.int64), "rate": tf.TensorSpec([], tf.float32)}


def variables(method) -> dict[str, tf.Variable]:
    """All that the step reads or changes, by name."""
    return method.state() | {"loss_scale": method.envelope.optimizer.loss_scale}


def start(state: dict[str, tf.Variable]) -> dict[str, dict]:
    """What the first values are, so that they can be drawn elsewhere: see `program.drawn`."""
    described, seen = {}, {}
    for name, variable in state.items():
        value = variable.numpy()
        kind = {"shape": value.shape, "dtype": value.dtype.name}
        spread = value.std(dtype=np.float64)
        if spread == 0:
            kind["fill"] = value.flat[0].item()
        elif value.tobytes() in seen:
            kind["same_as"] = seen[value.tobytes()]
        elif name == "queue":
            kind["unit_rows"] = True
        elif np.abs(value).max() <= 1.8 * spread:  # a uniform distribution ends at sqrt(3)
            kind["uniform"] = 3**0.5 * spread
        else:
            kind["normal"] = spread
        seen.setdefault(value.tobytes(), name)
        described[name] = kind
    return described


if __name__ == "__main__":
    main()
