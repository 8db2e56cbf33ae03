"""What `keras_backbones.py` asks of a finished run, each function in a process of its own.

python benchmarks/results/keras_checks.py FUNCTION ARGUMENT_AS_JSON ...
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras_cnn import cnn

import moco_tf
from moco_tf.building import (
    build_batches,
    build_images,
    build_method,
    build_schedule,
    build_step,
    build_strategy,
)
from moco_tf.recipes import RECIPES
from moco_tf.runs import variables
from moco_tf.runs.backbone import find_backbone
from moco_tf.runs.check import check_run
from moco_tf.runs.objects import with_objects

FORMATS = {"keras": ".keras", "savedmodel": "", "onnx": ".onnx", "litert": ".tflite"}
CLOSE = 1e-4  # of float32, of the largest feature


def make_cnn(file: str) -> None:
    """Writes the CNN of ten lines, with the weights that `train_cnn` begins with."""
    keras.utils.set_random_seed(0)
    cnn().save(file)


def train_cnn(fields: dict) -> None:
    """Trains the CNN as somebody does who has it in Python."""
    keras.utils.set_random_seed(0)
    moco_tf.pretrain("small", backbone=cnn(), **fields)


def steps(fields: dict, out: str, nudges: list[float]) -> list[list[float]]:
    """All steps of a run in float64, from one start again and again; returns the losses of each.

    The states after the first and the last step go to OUT-NUDGE-first.npz and OUT-NUDGE-last.npz.

    Args:
        fields: of the config.
        nudges: by which share every first weight is moved, up or down; 2e-16 is a rounding error.
    """
    config = RECIPES["small"].config.model_copy(update=fields | {"precision": "float64"})
    strategy = build_strategy(config)  # before TensorFlow has started
    keras.utils.set_random_seed(0)
    backbone = None if "encoder" in fields else cnn()
    config, weights = find_backbone(with_objects(config, None, backbone, None), backbone, None)
    images, _ = build_images(config)
    method = build_method(config, strategy, images)
    if weights:  # else those drawn by the seed
        weights.assign(method.state())
    first, train_step = variables.arrays_of(method.state()), build_step(config, method)
    return [_losses(config, images, method, train_step, first, out, nudge) for nudge in nudges]


def _losses(config, images, method, train_step, first, out, nudge) -> list[float]:
    random, losses = np.random.default_rng(0), []
    for name, variable in method.state().items():
        signs = random.choice([-1, 1], first[name].shape)
        number = first[name].dtype.kind == "f"
        variable.assign(first[name] * (1 + nudge * signs) if number else first[name])
    epoch_steps = images.count // config.batch_size
    rate = build_schedule(config, epoch_steps)
    batches = build_batches(config, images, 0)
    for step in range(config.epochs * epoch_steps):
        losses.append(float(train_step(*next(batches), step, rate(step))["loss"]))
        part = {0: "first", config.epochs * epoch_steps - 1: "last"}.get(step)
        if part:
            np.savez(f"{out}-{nudge:g}-{part}.npz", **variables.arrays_of(method.state()))
    batches.close()
    return losses


def checks(run: str, pictures: str, out: str) -> dict[str, dict]:
    """Evaluates and exports a run in every way. Check -> numbers, `passed`, `seconds`."""
    with np.load(pictures) as file:
        images, labels = file["x_test"], file["y_test"]
    out = Path(out)
    wanted = {
        "check": lambda: _whole(run),
        "knn": lambda: _knn(run),
        "embed": lambda: _embed(run, images),
        "probe --quick": lambda: _top1(moco_tf.probe(run, quick=True)),
        "finetune": lambda: _finetune(run, images, labels),
        "model.fit": lambda: _fit(run, images, labels),
    }
    for to in FORMATS:
        wanted[f"export {to}"] = lambda to=to: _export(run, out, to)
    found = {}
    for name, check in wanted.items():
        began = time.monotonic()
        try:
            numbers = check()
        except Exception as error:  # the next check says what it finds all the same
            numbers = {"passed": False, "error": f"{type(error).__name__}: {error}"}
        found[name] = numbers | {"seconds": time.monotonic() - began}
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)  # it may take long
    return found


def _whole(run: str) -> dict:
    return {"passed": check_run(Path(run))["whole"]}


def _knn(run: str) -> dict:
    """The command finds what the training's last evaluation found."""
    summary = moco_tf.load_run(run).summary
    found = moco_tf.knn(run, k=20)["knn_top1"]
    return {"passed": found == summary["knn_top1"], "top1": found}


def _embed(run: str, images: np.ndarray) -> dict:
    """Features of the test pictures, as those of the model that `load_encoder` gives."""
    features = moco_tf.embed(run, split="test")
    encoder = moco_tf.load_encoder(run, preprocessing=True)
    difference = _relative(encoder.predict(images, verbose=0), features)
    shape = list(features.shape)
    return {"passed": difference <= CLOSE, "difference": difference, "shape": shape}


def _finetune(run: str, images: np.ndarray, labels: np.ndarray) -> dict:
    """Two epochs on half of the labels; the tuned encoder, loaded, is as good as was told."""
    told = moco_tf.finetune(run, epochs=2, label_fraction=0.5, batch_size=16, group_size=8)
    file = Path(run) / "finetune-0.5" / "encoder.safetensors"
    tuned = moco_tf.load_encoder(file, head=True, preprocessing=True)
    top1 = 100 * float(np.mean(tuned.predict(images, verbose=0).argmax(axis=1) == labels))
    return {"passed": abs(top1 - told["top1"]) < 1e-3, "top1": told["top1"], "loaded_top1": top1}


def _fit(run: str, images: np.ndarray, labels: np.ndarray) -> dict:
    """Keras's own training of the encoder and a layer on it: the loss falls, weights change."""
    encoder = moco_tf.load_encoder(run)
    before = [np.array(weight) for weight in encoder.trainable_weights]
    model = keras.Sequential([encoder, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    keras.utils.set_random_seed(0)
    pixels = images.astype(np.float32)
    if moco_tf.load_run(run).config.normalization != "pixels":
        pixels = pixels / 127.5 - 1
    losses = model.fit(pixels, labels, batch_size=16, epochs=4, verbose=0).history["loss"]
    changed = all(
        np.any(np.array(weight) != old)
        for weight, old in zip(encoder.trainable_weights, before, strict=True)
    )
    passed = bool(losses[-1] < losses[0] and changed)
    return {"passed": passed, "first_loss": losses[0], "last_loss": losses[-1]}


def _export(run: str, out: Path, to: str) -> dict:
    told = moco_tf.export(run, out / f"exported-{to}{FORMATS[to]}", format=to)
    return {"passed": bool(told["equal"]), "difference": told["largest_error"]}


def _top1(told: dict) -> dict:
    return {"passed": 0 <= told["top1"] <= 100, "top1": told["top1"]}


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


if __name__ == "__main__":
    _function, *_arguments = sys.argv[1:]
    print(json.dumps(globals()[_function](*map(json.loads, _arguments))))
