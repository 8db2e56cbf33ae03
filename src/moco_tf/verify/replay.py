"""The recorded steps, taken again by the training step that `pretrain` runs."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from moco_tf.config import check_devices
from moco_tf.distribute import make_strategy
from moco_tf.errors import InputError
from moco_tf.methods.moco import MoCo
from moco_tf.models import ENCODERS
from moco_tf.models.resnet import resnet
from moco_tf.schedules import learning_rate
from moco_tf.verify.comparison import Comparison
from moco_tf.verify.traces import (
    Trace,
    demo_layer,
    drawn_normal,
    drawn_weight,
    from_official,
    official_name,
    to_official,
)

STORED_AS_FLOAT32 = 2e-7  # of a tensor's largest value, in double precision
TRUE_FLOAT64 = 1e-10
DEMO_QUERY_TOLERANCES = (1e-5, 6e-5, 3e-4, 6e-4)  # steps 1, 2, 3, and all later ones
DEMO_IMAGE_SIZE = 32
DEMO_SGD_MOMENTUM = 0.9


def replay(trace: Trace, *, devices: int | None, float64: bool) -> Comparison:
    """Returns how far our steps are from the recorded ones, quantity by quantity.

    Raises:
        InputError: an array is missing or of an impossible shape, or the groups do not divide by
            `devices`.
    """
    run = {"moco": _replay_moco, "demo": _replay_demo}[trace.kind]
    result = Comparison()
    try:
        run(trace, devices, "float64" if float64 else "float32", result)
    except (KeyError, ValueError, IndexError, TypeError, tf.errors.InvalidArgumentError) as error:
        if isinstance(error, InputError):
            raise
        message = " ".join(str(error).split())[:200]
        raise InputError(
            f"{trace.path} is not a whole trace: {type(error).__name__}: {message}"
        ) from None
    return result


def _replay_moco(trace: Trace, devices, dtype, out: Comparison) -> None:
    c = trace.config
    world, batch, double = c["world"], c["batch"], dtype == "float64"
    method = _build(
        devices,
        dtype,
        network={
            "block": c["block"],
            "blocks": tuple(c["layers"]),
            "width": c["width"],
            "stem": "imagenet",
            "head": "mlp" if c["mlp"] else "linear",
            "image_size": c["size"],
        },
        groups={"group_size": batch, "group_layout": "contiguous"},
        statistics="first_group",
        batch_size=world * batch,
        sgd_momentum=c["mom"],
        config=c,
        symmetric=False,
    )
    for prefix, encoder in (("encoder_q", method.query), ("encoder_k", method.key)):
        _load(encoder, lambda name, shape, p=prefix: trace[f"init/{p}.{name}"])
    method.queue.assign(trace["init/queue"].T.astype(dtype))
    method.pointer.assign(int(trace["init/queue_ptr"].reshape(-1)[0]))
    step_function = tf.function(method.train_step)
    steps = len(trace["lr"])
    for s in range(steps):
        rate = learning_rate(
            s,
            steps_per_epoch=c["steps_per_epoch"],
            epochs=c["epochs"],
            base=c["lr"],
            schedule="cosine" if c["cos"] else "step",
            milestones=tuple(c["schedule"]),
            drop=0.1,
            unit="epoch",
            first_epoch=0,
        )
        views = [_decoded(trace[name][s], dtype) for name in ("im_q", "im_k")]
        order = trace["idx_shuffle"][s].reshape(1, -1)
        _, details = step_function(*views, _permutation(order), tf.constant(rate, dtype))
        _compare_moco_step(trace, s, rate, details, method, out, double)
    if steps != c["steps"]:
        raise InputError(f"{trace.path} holds {steps} steps, its settings say {c['steps']}.")


def _compare_moco_step(trace, s, rate, details, method, out, double) -> None:
    step, shape = s + 1, trace["logits"].shape[1:]
    logits = details["logits"][0].numpy().reshape(shape)
    losses = details["losses"][0].numpy().reshape(shape[:2]).mean(axis=1)
    keys, queries = (details[n][0].numpy().reshape(*shape[:2], -1) for n in ("keys", "queries"))
    out.close("learning rate", step, rate, trace["lr"][s], 1e-12, scale=max(rate, 1e-12))
    if double:
        for name, ours in (("logits", logits), ("k", keys)):
            label = {"logits": "logits", "k": "keys"}[name]
            out.of_largest(label, step, ours, trace[f"fp64/{name}"][s], STORED_AS_FLOAT32)
        recorded = trace["fp64/loss"][s]
        out.close("loss", step, losses, recorded, TRUE_FLOAT64, scale=np.abs(recorded))
    out.close("logits (float32 record)", step, logits, trace["logits"][s], 7e-4)
    out.close("loss (float32 record)", step, losses, trace["loss"][s], 1e-4)
    out.close("queries", step, queries, trace["q"][s], 3e-5)
    out.close("keys (float32 record)", step, keys, trace["k"][s], 3e-5)
    above = (logits[..., 1:] > logits[..., :1]).sum(axis=-1)
    for name, k in (("acc1", 1), ("acc5", 5)):
        accuracy = 100 * (above < k).mean(axis=1)
        out.close(f"accuracy top-{k}", step, accuracy, trace[name][s], 1e-4)
    out.close("queue", step, method.queue.numpy().T, trace["queue"][s], 3e-5)
    pointer = int(method.pointer.numpy())
    out.close("queue pointer", step, pointer, trace["queue_ptr"][s], 0)
    ours = _state(method)
    recorded, start = {}, 0
    for name, size in zip(trace["bn_names"], trace["bn_sizes"], strict=True):
        recorded[str(name)] = trace["bn_after"][s, 0, start : start + size]
        start += size
    _compare_tensors(ours, recorded, step, out)
    for snapshot in (f"step{step}", f"step{step}_momentum"):
        prefix = snapshot + "/"
        found = {n.removeprefix(prefix): a for n, a in trace.arrays.items() if n.startswith(prefix)}
        if not found:
            if step in trace.config["snaps"] and snapshot == f"step{step}":
                raise InputError(f"{trace.path} is not a whole trace: no arrays {prefix}*.")
            continue
        if snapshot.endswith("_momentum"):
            _compare_momentum(_momentum(method), found, step, out)
            continue
        out.close("queue", step, method.queue.numpy().T, found.pop("queue"), 3e-5)
        out.close("queue pointer", step, [pointer], found.pop("queue_ptr"), 0)
        _compare_tensors(ours, found, step, out)
    prefix = f"fp64/step{step}/"
    if double:
        for name, array in trace.arrays.items():
            if name.startswith(prefix):
                own = name.removeprefix(prefix)
                if own == "queue_ptr":
                    out.close("queue pointer", step, [pointer], array, 0)
                    continue
                value = method.queue.numpy().T if own == "queue" else ours[own]
                out.of_largest(
                    "state (float64 record)", step, value, array, STORED_AS_FLOAT32, name=own
                )


def _compare_tensors(ours, recorded, step, out) -> None:
    """Parameters and running statistics of both encoders against float32 records."""
    for name, array in recorded.items():
        encoder = "query encoder" if name.startswith("encoder_q.") else "key encoder"
        value = ours[name]
        if name.endswith("running_mean"):
            std = np.sqrt(ours[name.removesuffix("mean") + "var"])
            out.close(f"{encoder} running means", step, value, array, 2e-5, scale=std, name=name)
        elif name.endswith("running_var"):
            out.of_largest(f"{encoder} running variances", step, value, array, 1e-4, name=name)
        elif array.ndim == 1:
            gate = 6e-6 if encoder == "query encoder" else 2e-6
            out.close(f"{encoder} 1-D parameters", step, value, array, gate, name=name)
        else:
            gate = 8e-6 if encoder == "query encoder" else 4e-6
            out.of_largest(f"{encoder} other parameters", step, value, array, gate, name=name)


def _compare_momentum(ours, recorded, step, out) -> None:
    for name, array in recorded.items():
        out.relative_l2("momentum buffers", step, ours[name], array, 5e-4, name=name)
    joined = [np.concatenate([side[n].ravel() for n in recorded]) for side in (ours, recorded)]
    out.relative_l2("momentum buffers, all", step, *joined, 1e-4)


def _replay_demo(trace: Trace, devices, dtype, out: Comparison) -> None:
    c, tag, calls = trace.config, trace.config["tag"], 2 if trace.symmetric else 1
    batch, double = c["batch"], dtype == "float64"
    method = _build(
        devices,
        dtype,
        network=ENCODERS["resnet18"]
        | {"width": 64, "stem": "small", "head": "linear", "image_size": DEMO_IMAGE_SIZE},
        groups={"group_size": batch // c["bn_splits"], "group_layout": "interleaved"},
        statistics="mean",
        batch_size=batch,
        sgd_momentum=c.get("mom", DEMO_SGD_MOMENTUM),
        config=c,
        symmetric=trace.symmetric,
    )

    def initial(name, shape):
        if name.endswith(("running_mean", "running_var")):
            return np.full(shape, float(name.endswith("var")), np.float32)
        factor = np.float32(c["wmul"] if len(shape) > 1 else 1)
        return drawn_weight(f"{tag}/{name}", shape) * factor

    for encoder in (method.query, method.key):
        _load(encoder, initial, demo_layer)
    queue = drawn_normal(f"{tag}/queue", (c["dim"], c["K"]))
    queue = queue / np.linalg.norm(queue, axis=0, keepdims=True)
    method.queue.assign(queue.T.astype(dtype))
    step_function = tf.function(method.train_step)
    for s in range(c["steps"]):
        rate = learning_rate(
            s,
            steps_per_epoch=1,
            epochs=c["epochs"],
            base=c["lr"],
            schedule="cosine",
            milestones=(),
            drop=0.1,
            unit="epoch",
            first_epoch=1,
        )
        shape = (batch, 3, DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE)
        first = drawn_normal(f"{tag}/im1/step{s}", shape)
        second = 0.5 * first + 0.875 * drawn_normal(f"{tag}/im2/step{s}", shape)
        views = [tf.constant(v.transpose(0, 2, 3, 1).astype(dtype)) for v in (first, second)]
        order = trace["idx_shuffle"][s].reshape(calls, batch)
        _, details = step_function(*views, _permutation(order), tf.constant(rate, dtype))
        _compare_demo_step(trace, s, rate, details, method, out, double)


def _compare_demo_step(trace, s, rate, details, method, out, double) -> None:
    step = s + 1
    largest_rate = max(abs(trace.config["lr"]), 1e-12)
    out.close("learning rate", step, rate, trace["lr"][s], 1e-12, scale=largest_rate)
    pointer = int(method.pointer.numpy())
    out.close("queue pointer", step, pointer, trace["queue_ptr"][s], 0)
    queries = details["queries"].numpy()
    gate = DEMO_QUERY_TOLERANCES[min(s, len(DEMO_QUERY_TOLERANCES) - 1)]
    out.close("queries", step, queries, trace["q"][s], gate)
    enqueued = details["keys"].numpy()[::-1].reshape(-1, queries.shape[-1])
    out.close("enqueued keys", step, enqueued, trace["enqueued"][s], 6e-5)
    if step == 1:
        recorded = trace["queue_after_step1"]
        out.close("queue", step, method.queue.numpy().T, recorded, 6e-5)
    terms = details["losses"].numpy().mean(axis=1)
    state = _state(method, demo_layer)
    names = [str(name) for name in trace["param_names"]]
    gradients = {
        official_name(v.path, demo_layer): g.numpy()
        for v, g in zip(method.query.model.trainable_variables, details["gradients"], strict=True)
    }
    values = {"loss": terms.sum(), "loss_terms": terms}
    values["grad_l2"] = np.array([np.linalg.norm(gradients[name]) for name in names])
    bn_names = [str(name) for name in trace["bn_names"]]
    for side in ("q", "k"):
        tensors = [state[f"encoder_{side}.{name}"].astype(np.float64) for name in names]
        values[f"param_{side}_l2"] = np.array([np.linalg.norm(t) for t in tensors])
        values[f"param_{side}_dot"] = np.array(
            [
                np.sum(t * drawn_normal(f"proj/{name}", t.shape)) / np.sqrt(t.size)
                for name, t in zip(names, tensors, strict=True)
            ]
        )
        pairs = [
            [state[f"encoder_{side}.{name}.running_{x}"] for x in ("mean", "var")]
            for name in bn_names
        ]
        values[f"bn_{side}_l2"] = np.array([[np.linalg.norm(x) for x in pair] for pair in pairs])
        encoder = {"q": "query encoder", "k": "key encoder"}[side]
        for which, pair in (("first", pairs[0]), ("last", pairs[-1])):
            mean, variance = trace[f"bn_{side}_{which}"][s]
            out.close(f"{encoder} running means", step, pair[0], mean, 3e-4, scale=np.sqrt(pair[1]))
            out.of_largest(f"{encoder} running variances", step, pair[1], variance, 1e-4)
    for name, value in values.items():
        if double:
            out.of_largest(name, step, value, trace[f"fp64/{name}"][s], TRUE_FLOAT64)
        label, recorded = f"{name} (float32 record)", trace[name][s]
        if name == "grad_l2":  # ReLU switching: float32 gradients are off by up to 2 %
            out.close(label, step, value, recorded, 2e-2, scale=np.abs(recorded))
        elif name.endswith("l2"):
            out.close(label, step, value, recorded, 1e-4, scale=np.abs(recorded))
        else:
            out.close(label, step, value, recorded, 1e-4 if "loss" in name else 3e-4)


def _build(
    devices, dtype, *, network, groups, statistics, batch_size, sgd_momentum, config, symmetric
) -> MoCo:
    strategy = make_strategy(devices)
    check_devices(batch_size, groups["group_size"], strategy.num_replicas_in_sync)
    settings = network | groups
    settings |= {"dim": config["dim"], "running_statistics": statistics, "dtype": dtype}
    with strategy.scope():
        query, key = resnet(**settings), resnet(**settings)
    return MoCo(
        query,
        key,
        strategy=strategy,
        queue_size=config["K"],
        dim=config["dim"],
        batch_size=batch_size,
        running_statistics=statistics,
        key_momentum=config["m"],
        temperature=config["T"],
        symmetric=symmetric,
        sgd_momentum=sgd_momentum,
        weight_decay=config["wd"],
        dtype=dtype,
        **groups,
    )


def _load(encoder, value_of, rename=str) -> None:
    for variable in encoder.model.variables:
        shape = to_official(np.empty(variable.shape)).shape
        value = value_of(official_name(variable.path, rename), shape)
        if value.shape != shape:
            raise ValueError(f"{variable.path}: shape {value.shape}, expected {shape}")
        variable.value.assign(from_official(value).astype(variable.dtype))


def _named(variables, values, rename) -> Iterator[tuple[str, np.ndarray]]:
    for variable, value in zip(variables, values, strict=True):
        yield official_name(variable.path, rename), to_official(value.numpy())


def _state(method: MoCo, rename=str) -> dict[str, np.ndarray]:
    state = {}
    for prefix, encoder in (("encoder_q", method.query), ("encoder_k", method.key)):
        variables = encoder.model.variables
        for name, value in _named(variables, [v.value for v in variables], rename):
            state[f"{prefix}.{name}"] = value
    return state


def _momentum(method: MoCo) -> dict[str, np.ndarray]:
    variables = method.query.model.trainable_variables
    return {f"encoder_q.{name}": v for name, v in _named(variables, method.buffers, str)}


def _decoded(images: np.ndarray, dtype):
    """uint8 [W, B, 3, H, W] -> (x - 128) / 64, [W * B, H, W, 3]."""
    flat = images.reshape(-1, *images.shape[-3:]).transpose(0, 2, 3, 1)
    return tf.constant(((flat.astype(np.float32) - 128) / 64).astype(dtype))


def _permutation(order: np.ndarray):
    if any(not np.array_equal(np.sort(row), np.arange(len(row))) for row in order):
        raise ValueError("idx_shuffle holds something that is not a permutation")
    return tf.constant(order.astype(np.int32))
