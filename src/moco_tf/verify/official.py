"""Replay of the official MoCo v1 and v2 on several processes, each one BatchNorm group.

Legend: S steps, W processes ("ranks"), B images of one process, C feature dimensions, K queue size.
"""

import re

import numpy as np

from moco_tf.methods.loss import top_k_accuracy
from moco_tf.training.schedules import learning_rate
from moco_tf.verify import tolerances
from moco_tf.verify.tolerances import ROUNDED, UNROUNDED, Gate

INPUTS = ("im_q", "im_k", "idx_shuffle", "lr")
RESULTS = (
    *("q", "k", "logits", "loss", "acc1", "acc5", "queue", "queue_ptr"),
    *("fp64/k", "fp64/logits", "fp64/loss"),
)
SNAPSHOT = re.compile(r"(fp64/)?step(\d+)(_momentum)?/")
FLOAT64_RUN = ", float64 run"
NOT_KEPT = ".num_batches_tracked"  # equal to the step
RESTARTED = ", restarted"


def group_count(settings) -> int:
    """Number of BatchNorm groups."""
    return settings.world


def encoder_settings(settings) -> dict:
    """Settings of `resnet`."""
    return {
        "block": settings.block,
        "blocks": settings.layers,
        "image_size": settings.size,
        "stem": "imagenet",
        "width": settings.width,
        "head": "mlp" if settings.mlp else "linear",
        "dim": settings.dim,
        "group_size": settings.batch,
        "group_layout": "contiguous",
        "running_statistics": "first_group",
    }


def method_settings(settings) -> dict:
    """Settings of `MoCo`."""
    return {
        "queue_size": settings.K,
        "key_momentum": settings.m,
        "temperature": settings.T,
        "symmetric": False,
    }


def step_settings(settings) -> dict:
    """Batch size and settings of the optimizer."""
    sgd = {"momentum": settings.mom, "weight_decay": settings.wd}
    return {"batch_size": settings.world * settings.batch, "sgd": sgd}


def check_shapes(trace) -> None:
    """Raises `InputError` unless all arrays that do not depend on the encoder are sound."""
    s = trace.settings
    ranks = (s.steps, s.world)
    for name in ("im_q", "im_k"):
        trace.require(name, (*ranks, s.batch, 3, s.size, s.size), "u")
    trace.require("idx_shuffle", (s.steps, s.world * s.batch), "iu")
    for name in ("q", "k", "fp64/k"):
        trace.require(name, (*ranks, s.batch, s.dim))
    for name in ("logits", "fp64/logits"):
        trace.require(name, (*ranks, s.batch, 1 + s.K))
    for name in ("loss", "acc1", "acc5", "fp64/loss"):
        trace.require(name, ranks)
    trace.require("queue", (s.steps, s.dim, s.K))
    trace.require("queue_ptr", (s.steps,), "iu")
    trace.require("lr", (s.steps,))


def check_model_shapes(trace, replay) -> None:
    """Raises `InputError` unless all snapshots, and `bn_after`, fit the encoder."""
    s, names = trace.settings, replay.shapes
    found = {match[0] for name in trace.arrays if (match := SNAPSHOT.match(name))}
    found |= {"init/", *(f"step{n}/" for n in s.snaps)}
    if s.mom and max(s.snaps) > 1:
        found.add(f"step{max(s.snaps)}_momentum/")
    if not any(prefix.startswith("fp64/") for prefix in found):
        found.add(f"fp64/step{max(s.snaps)}/")
    for prefix in sorted(found):
        encoders = ["encoder_q"]
        stored = [name for name in trace.arrays if name.startswith(prefix)]
        if "_momentum" in prefix:
            names = {name: replay.shapes[name] for name in replay.parameter_names}
        else:
            names = replay.shapes
            trace.require(prefix + "queue", (s.dim, s.K))
            trace.require(prefix + "queue_ptr", (1,), "iuf")
            if not prefix.startswith("fp64/") or any("/encoder_k." in name for name in stored):
                encoders.append("encoder_k")
        here = {f"{prefix}{e}.{name}": shape for e in encoders for name, shape in names.items()}
        for name, shape in here.items():
            trace.require(name, shape)
        for name in sorted(set(stored) - set(here)):
            if "/encoder_" in name and not name.endswith(NOT_KEPT):
                trace.refuse(f"the array {name!r} is not of the encoder in its settings")
    trace.names("bn_names")
    wanted = [f"{e}.{n}" for e in ("encoder_q", "encoder_k") for n in replay.statistics_names]
    sizes = {name: replay.shapes[name.split(".", 1)[1]][0] for name in wanted}
    trace.require("bn_names", (len(wanted),), "U")
    trace.require("bn_sizes", (len(wanted),), "iu")
    trace.require("bn_after", (s.steps, s.world, sum(sizes.values())))
    stored_sizes = zip(trace.names("bn_names"), trace.arrays["bn_sizes"].tolist(), strict=True)
    if dict(stored_sizes) != sizes:
        trace.refuse("bn_names and bn_sizes are not those of the encoder")


def compare(trace, replay, ledger) -> None:
    """Replays all steps, and again from each snapshot that has momentum buffers."""
    replay.assign(_snapshot(trace, "init/"))
    for number in range(1, trace.settings.steps + 1):
        _compare_step(trace, replay, ledger, number, "")
    for start in range(1, trace.settings.steps):
        momentum = _snapshot(trace, f"step{start}_momentum/")
        if momentum:
            buffers = {n.replace("encoder_q.", "momentum."): v for n, v in momentum.items()}
            replay.assign(_snapshot(trace, f"step{start}/") | buffers)
            for number in range(start + 1, trace.settings.steps + 1):
                _compare_step(trace, replay, ledger, number, RESTARTED)


def _snapshot(trace, prefix) -> dict[str, np.ndarray]:
    found = {n.removeprefix(prefix): a for n, a in trace.arrays.items() if n.startswith(prefix)}
    return {name: array for name, array in found.items() if not name.endswith(NOT_KEPT)}


def _compare_step(trace, replay, ledger, number, suffix) -> None:
    """Runs step `number` (1, 2, ...) and compares all that was recorded of it."""
    s, index = trace.settings, number - 1
    recorded = {name: trace.arrays[name][index] for name in (*INPUTS, *RESULTS)}
    rate = learning_rate(
        index,
        steps_per_epoch=s.steps_per_epoch,
        epochs=s.epochs,
        base=s.lr,
        schedule="cosine" if s.cos else "step",
        milestones=s.schedule or (),
        drop=0.1,
        unit="epoch",
        first_epoch=0,
    )
    queries, keys = (_decode(recorded[name]) for name in ("im_q", "im_k"))
    step = replay.step(
        queries.reshape(-1, *queries.shape[2:]),
        keys.reshape(-1, *keys.shape[2:]),
        recorded["idx_shuffle"][None],
        rate,
    )

    def check(quantity, name, ours, gate):
        ledger.compare(quantity + suffix, number, name, ours, recorded[name], gate)

    def check_float64_run(quantity, name, ours, gate, tight):
        if not suffix:  # a restart begins at the float32 run's state
            gate = tight if replay.dtype == "float64" else gate
            ledger.compare(quantity + FLOAT64_RUN, number, name, ours, recorded[name], gate)

    ranks = {n: step.details[n][0] for n in ("queries", "keys", "logits", "losses")}
    ranks = {n: a.reshape(s.world, s.batch, *a.shape[1:]) for n, a in ranks.items()}
    losses = ranks["losses"].mean(axis=1)
    stored_rate = trace.arrays["lr"].dtype.type(rate)
    check("learning rate", "lr", stored_rate, tolerances.LEARNING_RATE)
    check("queries", "q", ranks["queries"], tolerances.QUERIES)
    check("keys", "k", ranks["keys"], tolerances.KEYS)
    check_float64_run("keys", "fp64/k", ranks["keys"], tolerances.KEYS, ROUNDED)
    check("logits", "logits", ranks["logits"], tolerances.LOGITS)
    check_float64_run("logits", "fp64/logits", ranks["logits"], tolerances.LOGITS, ROUNDED)
    check("loss", "loss", losses, tolerances.LOSS)
    check_float64_run("loss", "fp64/loss", losses, tolerances.LOSS, UNROUNDED)
    mean_loss = recorded["loss"].mean()
    ledger.compare(
        "loss" + suffix, number, "loss", step.scalars["loss"], mean_loss, tolerances.LOSS
    )
    for k in (1, 5):
        name = f"acc{k}"
        ours = [float(top_k_accuracy(logits, k)) for logits in ranks["logits"]]
        check(f"top-{k} accuracy", name, ours, tolerances.ACCURACY)
        reported, expected = step.scalars[f"top{k}"], recorded[name].mean()
        gate = tolerances.ACCURACY
        ledger.compare(f"top-{k} accuracy{suffix}", number, name, reported, expected, gate)
    check("queue", "queue", step.after["queue"], tolerances.QUEUE)
    check("queue pointer", "queue_ptr", step.after["queue_ptr"], tolerances.EQUAL)
    prefixes = [f"step{number}/", f"step{number}_momentum/"]
    for prefix in prefixes if suffix else [*prefixes, f"fp64/step{number}/"]:
        _compare_snapshot(trace, replay, ledger, number, prefix, step.after, suffix)
    _compare_statistics(trace, replay, ledger, number, step, (queries, keys), suffix)


def _compare_snapshot(trace, replay, ledger, number, prefix, after, suffix) -> None:
    recorded = _snapshot(trace, prefix)
    tight = replay.dtype == "float64" and prefix.startswith("fp64/")
    label = (FLOAT64_RUN if prefix.startswith("fp64/") else "") + suffix
    if "_momentum" in prefix and recorded:
        ours = {n: after[n.replace("encoder_q.", "momentum.")] for n in recorded}
        for name, array in recorded.items():
            gate = tolerances.MOMENTUM_BUFFER
            quantity = "momentum buffers, each" + label
            ledger.compare(quantity, number, prefix + name, ours[name], array, gate)
        whole = [np.concatenate([a[n].ravel() for n in recorded]) for a in (ours, recorded)]
        quantity = "momentum buffers, all" + label
        ledger.compare(quantity, number, prefix + "*", *whole, tolerances.MOMENTUM_BUFFERS)
        return
    for name, array in recorded.items():
        quantity, gate, scale = _gate_of(name, array, recorded)
        if tight and name != "queue_ptr":
            gate, scale = ROUNDED, 1.0
        value = np.reshape(after[name], array.shape)
        ledger.compare(quantity + label, number, prefix + name, value / scale, array / scale, gate)


def _gate_of(name, array, recorded) -> tuple[str, Gate, np.ndarray | float]:
    """Quantity, gate and divisor of an array of a snapshot."""
    if name == "queue":
        return "queue", tolerances.QUEUE, 1.0
    if name == "queue_ptr":
        return "queue pointer", tolerances.EQUAL, 1.0
    encoder = name.split(".", 1)[0]
    title = {"encoder_q": "query encoder", "encoder_k": "key encoder"}[encoder]
    if name.endswith(".running_mean"):
        deviation = np.sqrt(recorded[name.removesuffix("mean") + "var"].astype(np.float64))
        return f"{title} running means", tolerances.RUNNING_MEAN, deviation
    if name.endswith(".running_var"):
        return f"{title} running variances", tolerances.RUNNING_VARIANCE, 1.0
    small, other = tolerances.PARAMETERS[encoder]
    if array.ndim == 1:
        return f"{title} parameters, 1-D", small, 1.0
    return f"{title} parameters, others", other, 1.0


def _compare_statistics(trace, replay, ledger, number, step, images, suffix) -> None:
    """Running statistics of every rank: each starts from rank 0's and sees its own images."""
    s = trace.settings
    queries, keys = images
    shuffled = keys.reshape(-1, *keys.shape[2:])[trace.arrays["idx_shuffle"][number - 1]]
    shuffled = shuffled.reshape(keys.shape)
    names, sizes = trace.names("bn_names"), trace.arrays["bn_sizes"]
    for rank in range(s.world):
        ours = step.after
        if rank > 0:
            ours = replay.group_statistics(
                "encoder_q",
                parameters=step.before,
                statistics=step.before,
                images=queries[rank],
            ) | replay.group_statistics(
                "encoder_k",
                parameters=step.after,  # the key encoder is updated before its forward pass
                statistics=step.before,
                images=shuffled[rank],
            )
        row = trace.arrays["bn_after"][number - 1, rank]
        recorded = dict(zip(names, np.split(row, np.cumsum(sizes)[:-1]), strict=True))
        for name, array in recorded.items():
            quantity, gate, scale = _gate_of(name, array, recorded)
            quantity += (" of other ranks" if rank else "") + suffix
            where = f"bn_after, rank {rank}, {name}"
            ledger.compare(quantity, number, where, ours[name] / scale, array / scale, gate)


def _decode(images) -> np.ndarray:
    """Stored uint8 images as the network's input, float32."""
    return (images.astype(np.float32) - np.float32(128)) / np.float32(64)
