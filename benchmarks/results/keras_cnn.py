"""A Keras CNN of ten lines as the backbone of the recipe `shapes`: kNN top-1 before and after.

    python benchmarks/results/keras_cnn.py --seeds 0 1 2

Each training is a run folder OUT/seed-N, with which a rerun goes on; the minutes are of this call.
"""

import argparse
import time
from pathlib import Path

import keras
from keras.layers import BatchNormalization, Conv2D, ReLU

import moco_tf


def cnn() -> keras.Model:
    """Seven convolutions with BatchNorm and ReLU: images [b, S, S, 3] to [b, S/8, S/8, 128]."""
    model = keras.Sequential([keras.Input((None, None, 3))])
    for filters, strides in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        model.add(Conv2D(filters, 3, strides, padding="same", use_bias=False))
        model.add(BatchNormalization())
        model.add(ReLU())
    return model


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--out", type=Path, default=Path("runs/keras_cnn"))
    options = options.parse_args()
    lines = [
        "| seed | untrained | raw pixels | trained | CPU minutes | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for seed in options.seeds:
        keras.utils.set_random_seed(seed)  # of the model's first weights; the run draws by its own
        cpu, start = time.process_time(), time.perf_counter()
        told = moco_tf.pretrain(
            "shapes",
            backbone=cnn(),
            run_dir=options.out / f"seed-{seed}",
            seed=seed,
            epochs=options.epochs,
            batch_size=128,
            group_size=32,
            knn_every=options.epochs,
        ).summary
        numbers = [told[f"knn_top1{which}"] for which in ("_untrained", "_pixels", "")]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - start
        columns = [*(f"{n:.2f}" for n in numbers), f"{cpu / 60:.1f}", f"{wall / 60:.1f}"]
        lines.append(f"| {seed} | {' | '.join(columns)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
