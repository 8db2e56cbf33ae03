"""Replay of the official CIFAR demo: one device, BatchNorm over interleaved groups ("SplitBN").

Its weights and inputs are not in the file: they are drawn from generators seeded by their names.
Legend: S steps, directions 1 or 2 (symmetric), B images, C dimensions, K queue size.
"""

import zlib

import numpy as np

from moco_tf.models.torch_names import demo_name
from moco_tf.training.schedules import learning_rate
from moco_tf.verify import tolerances
from moco_tf.verify.tolerances import UNROUNDED, UNROUNDED_PROJECTIONS

FLOAT64_RUN = ", float64 run"


def group_count(settings) -> int:
    """Number of BatchNorm groups."""
    return settings.bn_splits


def encoder_settings(settings) -> dict:
    """Settings of `resnet`."""
    return {
        "block": settings.block,
        "blocks": settings.layers,
        "image_size": settings.size,
        "stem": "small",
        "width": settings.width,
        "head": "linear",
        "dim": settings.dim,
        "group_size": settings.batch // settings.bn_splits,
        "group_layout": "interleaved",
        "running_statistics": "mean",
    }


def method_settings(settings) -> dict:
    """Settings of `MoCo`."""
    return {
        "queue_size": settings.K,
        "key_momentum": settings.m,
        "temperature": settings.T,
        "symmetric": settings.symmetric,
    }


def step_settings(settings) -> dict:
    """Batch size and settings of the optimizer."""
    sgd = {"momentum": settings.mom, "weight_decay": settings.wd}
    return {"batch_size": settings.batch, "sgd": sgd}


def check_shapes(trace) -> None:
    """Raises `InputError` unless all arrays that do not depend on the encoder are sound."""
    s, directions = trace.settings, _directions(trace)
    for run in ("", "fp64/"):
        trace.require(run + "loss", (s.steps,))
        trace.require(run + "loss_terms", (s.steps, directions))
    trace.require("q", (s.steps, directions, s.batch, s.dim))
    trace.require("enqueued", (s.steps, directions * s.batch, s.dim))
    trace.require("idx_shuffle", (s.steps, directions, s.batch), "iu")
    trace.require("lr", (s.steps,))
    trace.require("queue_ptr", (s.steps,), "iu")
    trace.require("queue_after_step1", (s.dim, s.K))


def check_model_shapes(trace, replay) -> None:
    """Raises `InputError` unless all arrays by parameter or BatchNorm layer fit the encoder."""
    s, names = trace.settings, _names(trace, replay)
    parameters, layers = trace.names("param_names"), trace.names("bn_names")
    if sorted(parameters) != sorted(names[name] for name in replay.parameter_names):
        trace.refuse("param_names are not those of the encoder")
    means = [n.removesuffix(".running_mean") for n in names.values() if n.endswith("running_mean")]
    if sorted(layers) != sorted(means):
        trace.refuse("bn_names are not those of the encoder")
    shapes = {names[name]: shape for name, shape in replay.shapes.items()}
    for run in ("", "fp64/"):
        trace.require(run + "grad_l2", (s.steps, len(parameters)))
        for encoder in "qk":
            trace.require(f"{run}param_{encoder}_l2", (s.steps, len(parameters)))
            trace.require(f"{run}param_{encoder}_dot", (s.steps, len(parameters)))
            trace.require(f"{run}bn_{encoder}_l2", (s.steps, len(layers), 2))
    for encoder in "qk":
        for which, layer in (("first", layers[0]), ("last", layers[-1])):
            size = shapes[f"{layer}.running_mean"]
            trace.require(f"bn_{encoder}_{which}", (s.steps, 2, *size))


def compare(trace, replay, ledger) -> None:
    """Replays all steps."""
    names = _names(trace, replay)
    replay.assign(_initial_state(trace, replay, names))
    directions = {
        names[name]: rinput("proj/" + names[name], replay.shapes[name])
        for name in replay.parameter_names
    }
    for number in range(1, trace.settings.steps + 1):
        _compare_step(trace, replay, ledger, number, names, directions)


def _compare_step(trace, replay, ledger, number, names, directions) -> None:
    """Runs step `number` (1, 2, ...) and compares all that was recorded of it."""
    s, index = trace.settings, number - 1
    rate = learning_rate(
        index,
        steps_per_epoch=1,
        epochs=s.epochs,
        base=s.lr,
        schedule="cosine" if s.cos else "step",
        milestones=s.schedule or (),
        drop=0.1,
        unit="epoch",
        first_epoch=1,
    )
    view1, view2 = _views(s, index)
    step = replay.step(view1, view2, trace.arrays["idx_shuffle"][index], rate)
    double = replay.dtype == "float64"

    def check(quantity, name, ours, gate, tight=None):
        """Against the recorded array and, if there is one (`tight`), that of the float64 run."""
        recorded = trace.arrays[name][index]
        ledger.compare(quantity, number, name, ours, recorded, gate)
        if tight:
            recorded, gate = trace.arrays["fp64/" + name][index], tight if double else gate
            label = quantity + FLOAT64_RUN
            ledger.compare(label, number, "fp64/" + name, ours, recorded, gate)

    stored_rate = trace.arrays["lr"].dtype.type(rate)
    check("learning rate", "lr", stored_rate, tolerances.LEARNING_RATE)
    check("queries", "q", step.details["queries"], tolerances.demo_queries(number))
    keys = step.details["keys"]
    # Enqueued are the keys of view 1, then those of view 2; the first call encodes view 2.
    check("keys", "enqueued", np.concatenate(keys[::-1]), tolerances.DEMO_KEYS)
    terms = step.details["losses"].mean(axis=1)
    check("loss", "loss_terms", terms, tolerances.LOSS, UNROUNDED)
    check("loss", "loss", step.scalars["loss"], tolerances.LOSS, UNROUNDED)
    _compare_queue(trace, ledger, number, step)
    parameters = trace.names("param_names")
    gradients = {names[name]: value for name, value in step.details["gradients"].items()}
    norms = [_norm(gradients[name]) for name in parameters]
    check("gradient norms, each", "grad_l2", norms, tolerances.DEMO_GRADIENT, UNROUNDED)
    check("gradient norms, all", "grad_l2", norms, tolerances.DEMO_GRADIENTS, UNROUNDED)
    query_gates = tolerances.DEMO_PROJECTIONS, tolerances.DEMO_NORMS
    key_gates = tolerances.demo_key_parameters(s.m)
    for short, title, (dot_gate, norm_gate) in (
        ("q", "query encoder", query_gates),
        ("k", "key encoder", key_gates),
    ):
        prefix = f"encoder_{short}."
        after = {
            names[name.removeprefix(prefix)]: value
            for name, value in step.after.items()
            if name.startswith(prefix)
        }
        norms = [_norm(after[name]) for name in parameters]
        dots = [_projection(after[name], directions[name]) for name in parameters]
        check(f"{title} parameter norms", f"param_{short}_l2", norms, norm_gate, UNROUNDED)
        tight = UNROUNDED_PROJECTIONS
        check(f"{title} parameter projections", f"param_{short}_dot", dots, dot_gate, tight)
        layers = trace.names("bn_names")
        statistics = [[after[f"{n}.running_{which}"] for which in ("mean", "var")] for n in layers]
        pairs = [[_norm(value) for value in pair] for pair in statistics]
        gate = tolerances.DEMO_STATISTICS_NORMS
        check(f"{title} running statistics norms", f"bn_{short}_l2", pairs, gate, UNROUNDED)
        for which, (mean, variance) in (("first", statistics[0]), ("last", statistics[-1])):
            name = f"bn_{short}_{which}"
            recorded = trace.arrays[name][index].astype(np.float64)
            deviation, gate = np.sqrt(recorded[1]), tolerances.DEMO_RUNNING_MEAN
            pair = mean / deviation, recorded[0] / deviation
            ledger.compare(f"{title} running means", number, name, *pair, gate)
            gate = tolerances.DEMO_RUNNING_VARIANCE
            ledger.compare(f"{title} running variances", number, name, variance, recorded[1], gate)


def _compare_queue(trace, ledger, number, step) -> None:
    """The pointer, the queue after step 1, and where each step's keys went."""
    s, gate = trace.settings, tolerances.DEMO_KEYS
    pointer = trace.arrays["queue_ptr"][number - 1]
    equal = tolerances.EQUAL
    ledger.compare("queue pointer", number, "queue_ptr", step.after["queue_ptr"], pointer, equal)
    if number == 1:
        recorded = trace.arrays["queue_after_step1"]
        ledger.compare("queue", number, "queue_after_step1", step.after["queue"], recorded, gate)
    keys = trace.arrays["enqueued"][number - 1][-s.K :]  # of more than fit, the last ones stay
    rows = (int(step.before["queue_ptr"]) + _directions(trace) * s.batch - len(keys)) % s.K
    columns = (rows + np.arange(len(keys))) % s.K
    ours = step.after["queue"][:, columns].T
    ledger.compare("queue", number, "enqueued", ours, keys, gate)


def _directions(trace) -> int:
    return 2 if trace.settings.symmetric else 1


def _names(trace, replay) -> dict[str, str]:
    """torchvision's names -> the demo's."""
    return {name: demo_name(name, len(trace.settings.layers)) for name in replay.shapes}


def _initial_state(trace, replay, names) -> dict[str, np.ndarray]:
    """Both encoders equal; convolutions and the linear weight times `wmul`; statistics 0 and 1."""
    s, state = trace.settings, {}
    for name, shape in replay.shapes.items():
        if name in replay.parameter_names:
            value = initial_parameter(f"{s.tag}/{names[name]}", shape)
            value = value * np.float32(s.wmul if len(shape) > 1 else 1)
        else:
            value = np.full(shape, float(name.endswith("running_var")), np.float32)
        state[f"encoder_q.{name}"] = state[f"encoder_k.{name}"] = value
    queue = rinput(f"{s.tag}/queue", (s.dim, s.K))
    state["queue"] = queue / np.linalg.norm(queue, axis=0, keepdims=True)
    state["queue_ptr"] = np.zeros(1, np.int64)
    return state


def _views(settings, index) -> list[np.ndarray]:
    shape = (settings.batch, 3, settings.size, settings.size)
    view1 = rinput(f"{settings.tag}/im1/step{index}", shape)
    other = rinput(f"{settings.tag}/im2/step{index}", shape)
    return [view1, np.float32(0.5) * view1 + np.float32(0.875) * other]


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
