"""What the official MoCo v1 and v2 recorded on several processes, each one BatchNorm group.

Legend: W processes ("ranks"), B images of one process, C feature dimensions, K queue size.
"""

import re
from collections.abc import Iterator

import numpy as np

from moco_tf.methods.loss import top_k_accuracy
from moco_tf.verify import tolerances
from moco_tf.verify.replay import Replay, Step
from moco_tf.verify.table import TITLES, Row
from moco_tf.verify.tolerances import EQUAL, ROUNDED, UNROUNDED
from moco_tf.verify.traces import Trace

DESCRIPTION = "MoCo v1/v2, several processes"
FIRST_EPOCH = 0
SNAPSHOT = re.compile(r"(fp64/)?step(\d+)(_momentum)?/")
NOT_KEPT = ".num_batches_tracked"  # equal to the step


def encoder_settings(settings) -> dict:
    """Settings of `resnet` that the two kinds do not share."""
    return {
        "stem": "imagenet",
        "head": "mlp" if settings.mlp else "linear",
        "group_size": settings.batch,
        "group_layout": "contiguous",
        "running_statistics": "first_group",
    }


def arrays(settings) -> list[tuple[str, tuple[int, ...], str]]:
    """Arrays without which no replay is built: names, shapes, kinds of dtype."""
    s = settings
    views = (s.steps, s.world, s.batch, 3, s.size, s.size)
    return [
        ("im_q", views, "u"),
        ("im_k", views, "u"),
        ("idx_shuffle", (s.steps, s.images), "iu"),
        ("lr", (s.steps,), "f"),
        ("queue", (s.steps, s.dim, s.K), "f"),
        *((name, (s.steps, s.world), "f") for name in ("loss", "acc1", "acc5")),
    ]


def starts(trace: Trace, replay: Replay) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The initial state, and each snapshot that has momentum buffers: steps done before, state."""
    _check_encoder(trace, replay)
    yield 0, _snapshot(trace, "init/")
    for done in range(1, trace.settings.steps):
        momentum = _snapshot(trace, f"step{done}_momentum/")
        if momentum:
            buffers = {n.replace("encoder_q.", "momentum."): a for n, a in momentum.items()}
            yield done, _snapshot(trace, f"step{done}/") | buffers


def inputs(trace: Trace, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """View 1, view 2 [W * B, 3, H, W] and the permutation [1, W * B] of a step, 0, 1, ..."""
    views = (trace.arrays[name][index].astype(np.float32) for name in ("im_q", "im_k"))
    view1, view2 = ((v - np.float32(128)) / np.float32(64) for v in views)  # [W, B, 3, H, W]
    order = trace.arrays["idx_shuffle"][index][None]
    return view1.reshape(-1, *view1.shape[2:]), view2.reshape(-1, *view2.shape[2:]), order


def rows(trace: Trace, replay: Replay, step: Step, number: int) -> Iterator[Row]:
    """All that was recorded of step `number`, 1, 2, ..."""
    s, recorded = trace.settings, {n: trace.arrays[n][number - 1] for n in ("loss", "acc1", "acc5")}

    def by_rank(name):  # [1, W * B, ...] -> [W, B, ...]
        array = step.details[name][0]
        return array.reshape(s.world, s.batch, *array.shape[1:])

    logits = by_rank("logits")
    yield Row("queries", "q", by_rank("queries"), tolerances.QUERIES)
    yield Row("keys", "k", by_rank("keys"), tolerances.KEYS, ROUNDED)
    yield Row("logits", "logits", logits, tolerances.LOGITS, ROUNDED)
    yield Row("loss", "loss", by_rank("losses").mean(axis=1), tolerances.LOSS, UNROUNDED)
    mean = recorded["loss"].mean()
    yield Row("loss", "loss", step.scalars["loss"], tolerances.LOSS, recorded=mean)
    for k in (1, 5):
        quantity, array, gate = f"top-{k} accuracy", f"acc{k}", tolerances.ACCURACY
        yield Row(quantity, array, [float(top_k_accuracy(one, k)) for one in logits], gate)
        yield Row(quantity, array, step.scalars[f"top{k}"], gate, recorded=recorded[array].mean())
    yield Row("queue", "queue", step.after["queue"], tolerances.QUEUE)
    yield Row("queue pointer", "queue_ptr", step.after["queue_ptr"], EQUAL)
    yield from _state_rows(f"step{number}/", _snapshot(trace, f"step{number}/"), step.after)
    yield from _momentum_rows(f"step{number}_momentum/", trace, step.after)
    prefix = f"fp64/step{number}/"
    yield from _state_rows(prefix, _snapshot(trace, prefix), step.after)
    names, ends = trace.arrays["bn_names"].tolist(), np.cumsum(trace.arrays["bn_sizes"])[:-1]
    for rank, row in enumerate(trace.arrays["bn_after"][number - 1]):
        ours = _statistics(trace, replay, step, number, rank) if rank else step.after
        statistics = dict(zip(names, np.split(row, ends), strict=True))
        others = " of other ranks" if rank else ""
        yield from _state_rows(f"bn_after, rank {rank}, ", statistics, ours, others)


def _check_encoder(trace: Trace, replay: Replay) -> None:
    """Raises `InputError` unless all snapshots, and `bn_after`, fit the encoder."""
    s, last = trace.settings, max(trace.settings.snaps)
    found = {match[0] for name in trace.arrays if (match := SNAPSHOT.match(name))}
    found |= {"init/", *(f"step{n}/" for n in s.snaps)}
    if s.mom and last > 1:
        found.add(f"step{last}_momentum/")
    # Restarts begin at both.
    found |= {p.replace("_momentum", "") for p in found if not p.startswith("fp64/")}
    if not any(prefix.startswith("fp64/") for prefix in found):
        found.add(f"fp64/step{last}/")
    for prefix in sorted(found):
        stored = _snapshot(trace, prefix)
        encoders, names = list(TITLES), list(replay.shapes)
        if "_momentum" in prefix:
            encoders, names = encoders[:1], replay.parameter_names
        else:
            trace.require(prefix + "queue", (s.dim, s.K))
            trace.require(prefix + "queue_ptr", (1,), "iuf")
            if prefix.startswith("fp64/") and not any(n.startswith("encoder_k.") for n in stored):
                encoders = encoders[:1]
        here = {f"{encoder}.{name}": replay.shapes[name] for encoder in encoders for name in names}
        for name, shape in here.items():
            trace.require(prefix + name, shape)
        for name in sorted(set(stored) - set(here) - {"queue", "queue_ptr"}):
            trace.refuse(f"the array {prefix + name!r} is not of the encoder in its settings")
    layers = {f"{e}.{n}": replay.shapes[n][0] for e in TITLES for n in replay.statistics_names}
    names = trace.names("bn_names", layers)
    trace.require("bn_sizes", (len(layers),), "iu")
    if trace.arrays["bn_sizes"].tolist() != [layers[name] for name in names]:
        trace.refuse("bn_sizes are not those of the encoder")
    trace.require("bn_after", (s.steps, s.world, sum(layers.values())))


def _snapshot(trace: Trace, prefix: str) -> dict[str, np.ndarray]:
    found = {n.removeprefix(prefix): a for n, a in trace.arrays.items() if n.startswith(prefix)}
    return {name: array for name, array in found.items() if not name.endswith(NOT_KEPT)}


def _state_rows(prefix, recorded, ours, suffix="") -> Iterator[Row]:
    """Of each recorded array of a state, by its name and, of parameters, its axes."""
    for name, array in recorded.items():
        title, tight, scale = TITLES.get(name.split(".", 1)[0]), ROUNDED, 1.0
        if name == "queue":
            quantity, gate = "queue", tolerances.QUEUE
        elif name == "queue_ptr":
            quantity, gate, tight = "queue pointer", EQUAL, EQUAL
        elif name.endswith(".running_mean"):
            quantity, gate = f"{title} running means", tolerances.RUNNING_MEAN
            variance = recorded[name.removesuffix("mean") + "var"]
            scale = np.sqrt(variance.astype(np.float64))
        elif name.endswith(".running_var"):
            quantity, gate = f"{title} running variances", tolerances.RUNNING_VARIANCE
        else:
            small, large = tolerances.PARAMETERS[name.split(".", 1)[0]]
            kind, gate = ("1-D", small) if array.ndim == 1 else ("others", large)
            quantity = f"{title} parameters, {kind}"
        yield Row(quantity + suffix, prefix + name, ours[name], gate, tight, array, scale)


def _momentum_rows(prefix, trace, after) -> Iterator[Row]:
    recorded = _snapshot(trace, prefix)
    ours = {name: after[name.replace("encoder_q.", "momentum.")] for name in recorded}
    gate = tolerances.MOMENTUM_BUFFER
    for name, array in recorded.items():
        yield Row("momentum buffers, each", prefix + name, ours[name], gate, recorded=array)
    if recorded:
        whole, expected = (
            np.concatenate([a.ravel() for a in d.values()]) for d in (ours, recorded)
        )
        gate = tolerances.MOMENTUM_BUFFERS
        yield Row("momentum buffers, all", prefix + "*", whole, gate, recorded=expected)


def _statistics(trace, replay, step, number, rank) -> dict[str, np.ndarray]:
    """Running statistics of another rank: each starts from rank 0's and sees its own images."""
    view1, view2, order = inputs(trace, number - 1)
    own = slice(rank * trace.settings.batch, (rank + 1) * trace.settings.batch)
    # The key encoder is updated before its forward pass.
    passes = (
        ("encoder_q", step.before, view1[own]),
        ("encoder_k", step.after, view2[order[0]][own]),
    )
    found: dict[str, np.ndarray] = {}
    for encoder, parameters, images in passes:
        found |= replay.group_statistics(
            encoder, parameters=parameters, statistics=step.before, images=images
        )
    return found
