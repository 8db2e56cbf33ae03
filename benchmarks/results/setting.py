"""What both sides are told of a training: the demo's recipe, or the same scaled to two cores."""

import argparse
import math
import statistics
from pathlib import Path

from image_subset import subset

# Official CIFAR-10 demo, for a GPU; learning rates are per 256 images.
DEMO = {
    "width": 64,
    "batch_size": 512,
    "group_size": 64,
    "queue_size": 4096,
    "key_momentum": 0.99,
    "temperature": 0.1,
    "dim": 128,
    "learning_rate": 0.03,
    "weight_decay": 5e-4,
    "crop_min_area": 0.08,
    "knn_k": 200,
}
# A narrow network, small batches for many steps, and larger crops and a larger rate, so that a few
# minutes on one core teach something.
SCALED = DEMO | {
    "width": 8,
    "batch_size": 64,
    "group_size": 16,
    "queue_size": 1024,
    "learning_rate": 0.12,
    "crop_min_area": 0.2,
}
# MoCo v3 by the recipe cifar10-v3, for a few hundred steps: LARS moves a weight by a thousandth of
# its norm times the rate, which is large here.
SCALED_V3 = {
    "recipe": "cifar10-v3",
    "precision": "float32",
    "width": 8,
    "batch_size": 32,
    "key_momentum": 0.99,
    "temperature": 1.0,
    "dim": 128,
    "mlp_dim": 512,
    "learning_rate": 8.0,
    "warmup_epochs": 1,
    "weight_decay": 1e-6,
    "crop_min_area": 0.2,
    "knn_k": 200,
}


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every comparison."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", type=Path, required=True, help="holds train/CLASS, test/CLASS")
    options.add_argument("--images", type=int, default=5000, help="training images")
    options.add_argument("--test-images", type=int, default=5000)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--seeds", type=int, nargs="+", default=[3], help="how many, or which")
    options.add_argument("--demo", action="store_true", help="the full recipe, for a GPU")
    options.add_argument("--last-only", action="store_true", help="kNN after the last epoch only")
    options.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options.add_argument("--out", type=Path, default=Path("runs/results"))
    options.add_argument("--json", action="store_true")
    return options


def prepared(
    options: argparse.Namespace, scaled: dict = SCALED
) -> tuple[Path, str, dict, list[int]]:
    """Returns the images' file, its digest, the setting and the seeds of the options."""
    images = options.out / f"images-{options.images}-{options.test_images}.npz"
    digest = subset(options.data, images, train=options.images, test=options.test_images)
    setting = (DEMO if options.demo else scaled) | {"epochs": options.epochs}
    if options.last_only:
        setting["knn_every"] = 0
    seeds = options.seeds
    return images, digest, setting, list(range(*seeds)) if len(seeds) == 1 else seeds


def spread(values: list[float]) -> float:
    """Standard deviation of a sample; of one value it is not known."""
    return statistics.stdev(values) if len(values) > 1 else math.nan
