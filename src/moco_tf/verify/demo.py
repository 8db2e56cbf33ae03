"""What the official CIFAR demo recorded: one device, BatchNorm over interleaved groups ("SplitBN").

Its weights and inputs are not in the file: they are drawn from generators seeded by their names.
Legend: D directions (2 if symmetric), B images, C dimensions, K queue size.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from moco_tf.models.torch_names import demo_name
from moco_tf.verify import tolerances
from moco_tf.verify.replay import Replay, Step
from moco_tf.verify.table import TITLES, Row
from moco_tf.verify.tolerances import UNROUNDED, UNROUNDED_PROJECTIONS
from moco_tf.verify.traces import Trace

DESCRIPTION = "CIFAR demo, one device"
FIRST_EPOCH = 1


def encoder_settings(settings) -> dict:
    """Settings of `resnet` that the two kinds do not share."""
    return {
        "stem": "small",
        "head": "linear",
        "group_size": settings.batch // settings.bn_splits,
        "group_layout": "interleaved",
        "running_statistics": "mean",
    }


def arrays(settings) -> list[tuple[str, tuple[int, ...], str]]:
    """Arrays without which no replay is built: names, shapes, kinds of dtype."""
    s, directions = settings, 1 + settings.symmetric
    return [
        ("idx_shuffle", (s.steps, directions, s.batch), "iu"),
        ("enqueued", (s.steps, directions * s.batch, s.dim), "f"),
        ("lr", (s.steps,), "f"),
        ("queue_after_step1", (s.dim, s.K), "f"),
    ]


def starts(trace: Trace, replay: Replay) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Steps before, 0, and the state: equal encoders, weights times `wmul`, statistics 0 and 1."""
    s, state = trace.settings, {}
    _recorded_names(trace, replay)
    for name, ours in _our_names(trace, replay).items():
        shape = replay.shapes[ours]
        if ours in replay.parameter_names:
            value = initial_parameter(f"{s.tag}/{name}", shape)
            value = value * np.float32(s.wmul if len(shape) > 1 else 1)
        else:
            value = np.full(shape, float(name.endswith("running_var")), np.float32)
        state[f"encoder_q.{ours}"] = state[f"encoder_k.{ours}"] = value
    queue = rinput(f"{s.tag}/queue", (s.dim, s.K))
    state["queue"] = queue / np.linalg.norm(queue, axis=0, keepdims=True)
    state["queue_ptr"] = np.zeros(1, np.int64)
    yield 0, state


def inputs(trace: Trace, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """View 1, view 2 [B, 3, H, W] and the permutations [D, B] of a step, 0, 1, ..."""
    s = trace.settings
    view1, other = (
        rinput(f"{s.tag}/im{n}/step{index}", (s.batch, 3, s.size, s.size)) for n in (1, 2)
    )
    view2 = np.float32(0.5) * view1 + np.float32(0.875) * other
    return view1, view2, trace.arrays["idx_shuffle"][index]


def rows(trace: Trace, replay: Replay, step: Step, number: int) -> Iterator[Row]:
    """All that was recorded of step `number`, 1, 2, ..."""
    yield Row("queries", "q", step.details["queries"], tolerances.demo_queries(number))
    # Enqueued are the keys of view 1, then those of view 2; the first call encodes view 2.
    keys = np.concatenate(step.details["keys"][::-1])
    yield Row("keys", "enqueued", keys, tolerances.DEMO_KEYS)
    terms = step.details["losses"].mean(axis=1)
    yield Row("loss", "loss_terms", terms, tolerances.LOSS, UNROUNDED)
    yield Row("loss", "loss", step.scalars["loss"], tolerances.LOSS, UNROUNDED)
    yield from _queue_rows(trace, step, number)
    names, (parameters, layers) = _our_names(trace, replay), _recorded_names(trace, replay)
    gradients = {name: step.details["gradients"][names[name]] for name in parameters}
    norms = [_norm(gradient) for gradient in gradients.values()]
    yield Row("gradient norms, each", "grad_l2", norms, tolerances.DEMO_GRADIENT, UNROUNDED)
    yield Row("gradient norms, all", "grad_l2", norms, tolerances.DEMO_GRADIENTS, UNROUNDED)
    onto = {name: rinput(f"proj/{name}", array.shape) for name, array in gradients.items()}
    for encoder, title in TITLES.items():
        short = encoder[-1]
        dot_gate, norm_gate = tolerances.DEMO_PROJECTIONS, tolerances.DEMO_NORMS
        if short == "k":
            dot_gate, norm_gate = tolerances.demo_key_parameters(trace.settings.m)
        values = {name: step.after[f"{encoder}.{ours}"] for name, ours in names.items()}
        norms = [_norm(values[name]) for name in parameters]
        dots = [_projection(values[name], onto[name]) for name in parameters]
        yield Row(f"{title} parameter norms", f"param_{short}_l2", norms, norm_gate, UNROUNDED)
        quantity = f"{title} parameter projections"
        yield Row(quantity, f"param_{short}_dot", dots, dot_gate, UNROUNDED_PROJECTIONS)
        statistics = [[values[f"{n}.running_{which}"] for which in ("mean", "var")] for n in layers]
        pairs = [[_norm(value) for value in pair] for pair in statistics]
        quantity, gate = f"{title} running statistics norms", tolerances.DEMO_STATISTICS_NORMS
        yield Row(quantity, f"bn_{short}_l2", pairs, gate, UNROUNDED)
        for which, pair in (("first", statistics[0]), ("last", statistics[-1])):
            array = f"bn_{short}_{which}"
            recorded = trace.of_step(array, number, np.shape(pair)).astype(np.float64)
            mean, variance = tolerances.DEMO_RUNNING_MEAN, tolerances.DEMO_RUNNING_VARIANCE
            quantity, deviation = f"{title} running means", np.sqrt(recorded[1])
            yield Row(quantity, array, pair[0], mean, recorded=recorded[0], scale=deviation)
            yield Row(f"{title} running variances", array, pair[1], variance, recorded=recorded[1])


def _queue_rows(trace, step, number) -> Iterator[Row]:
    """The pointer, the queue after step 1, and where each step's keys went."""
    s, gate = trace.settings, tolerances.DEMO_KEYS
    yield Row("queue pointer", "queue_ptr", step.after["queue_ptr"], tolerances.EQUAL)
    if number == 1:
        recorded = trace.arrays["queue_after_step1"]
        yield Row("queue", "queue_after_step1", step.after["queue"], gate, recorded=recorded)
    enqueued = trace.arrays["enqueued"][number - 1]
    keys = enqueued[-s.K :]  # of more than fit, the last ones stay
    first = int(step.before["queue_ptr"]) + len(enqueued) - len(keys)
    columns = (first + np.arange(len(keys))) % s.K
    yield Row("queue", "enqueued", step.after["queue"][:, columns].T, gate, recorded=keys)


def _our_names(trace: Trace, replay: Replay) -> dict[str, str]:
    """The demo's names -> torchvision's, which the replay uses."""
    stages = len(trace.settings.layers)
    return {demo_name(name, stages): name for name in replay.shapes}


def _recorded_names(trace: Trace, replay: Replay) -> tuple[list[str], list[str]]:
    """The demo's names of the parameters, and of the BatchNorm layers, in the order of the file."""
    names = _our_names(trace, replay)
    parameters = [name for name, ours in names.items() if ours in replay.parameter_names]
    means = (name for name in names if name.endswith(".running_mean"))
    layers = [name.removesuffix(".running_mean") for name in means]
    return trace.names("param_names", parameters), trace.names("bn_names", layers)


def initial_parameter(name: str, shape) -> np.ndarray:
    """Initial value of a parameter before scaling: float32, drawn from a generator of its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if not name.endswith(".weight"):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:  # scale of a BatchNorm
        value = 0.5 + rng.random(shape)
    else:
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32)


def rinput(name: str, shape) -> np.ndarray:
    """Standard normal float32 array, drawn from a generator seeded by `name`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal(shape).astype(np.float32)


def _norm(array) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64)))


def _projection(array, direction) -> float:
    product = np.asarray(array, np.float64) * np.asarray(direction, np.float64)
    return float(product.sum() / np.sqrt(product.size))
