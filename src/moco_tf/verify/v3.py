"""Recorded steps of the official MoCo v3: what is in such a file, and what is compared."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from moco_tf.models.torch_names import to_torch
from moco_tf.verify.report import Ledger
from moco_tf.verify.table import FLOAT64_RUN, Row, compare_rows
from moco_tf.verify.tolerances import (
    EXACTLY_SCHEDULED,
    V3,
    V3_ALL_GRADIENTS,
    V3_LOSS_FLOAT64,
    V3_NORMS_FLOAT64,
    V3_ROUNDED,
    V3_ROUNDING,
    Gate,
    absolute,
)
from moco_tf.verify.traces import Trace
from moco_tf.verify.v3_replay import V3Replay

DESCRIPTION = "MoCo v3"
RESTART = 3  # steps after which the whole state is recorded


def verify(trace: Trace, ledger: Ledger, strategy, dtype: str) -> None:
    """Runs the steps from the start and, in float32, from the middle; compares what was recorded.

    Raises:
        InputError: an array is missing, or is not what the settings say.
    """
    s = trace.settings
    for name in ("x1", "x2"):
        trace.require(name, (s.steps, s.batch, 3, s.size, s.size), "u")
    replay = V3Replay(s, strategy, dtype)
    _require(trace, replay)
    starts = [0] if dtype == "float64" or s.steps <= RESTART else [0, RESTART]
    for done in starts:
        replay.load(trace.arrays, f"step{done}/" if done else "init/")
        if done:
            replay.load_slots(trace.arrays, f"step{done}_opt/", done)
        for index in range(done, s.steps):
            pixels1, pixels2 = (trace.arrays[name][index] for name in ("x1", "x2"))
            details = replay.run(pixels1, pixels2, index)
            rows = [*_outputs(trace, replay, details, index), *_state(trace, replay, index + 1)]
            options = {"double": dtype == "float64", "restarted": done > 0}
            compare_rows(rows, trace, index + 1, ledger, **options)


def _require(trace: Trace, replay: V3Replay) -> None:
    s = trace.settings
    for name, shape in replay.shapes.items():
        for prefix in ("init/", f"step{RESTART}/" if s.steps > RESTART else "init/"):
            trace.require(prefix + name, shape)
    for name, slot, _ in replay.slots() if s.steps > RESTART else ():
        trace.require(f"step{RESTART}_opt/{name}/{slot}", replay.shapes[name])
    trace.names("trainable_names", replay.parameter_names)


def _outputs(trace: Trace, replay: V3Replay, details: dict, index: int) -> Iterator[Row]:
    s, gates = trace.settings, V3[trace.settings.kind]
    rate, momentum = s.scheduled(index)
    yield Row("learning rate", "lr", np.float64(rate), EXACTLY_SCHEDULED)
    yield Row("momentum", "m", np.float64(momentum), EXACTLY_SCHEDULED)
    for what, arrays in (("queries", details["queries"]), ("keys", details["keys"])):
        for number, array in enumerate(arrays, 1):
            yield Row(what, f"{what[0]}{number}", array, gates[what], V3_ROUNDED)
    terms = details["losses"].mean(axis=1)
    yield Row("loss", "loss", terms.sum(), gates["loss"], V3_LOSS_FLOAT64)
    yield Row("loss of each direction", "loss_terms", terms, gates["loss"], V3_LOSS_FLOAT64)
    order = [str(name) for name in trace.arrays["trainable_names"]]
    norms = dict(zip(replay.parameter_names, details["gradients"], strict=True))
    ours = np.array([np.linalg.norm(norms[name]) for name in order])
    # Where the exact gradient is 0 the recording holds rounding.
    real = trace.of_step(f"{FLOAT64_RUN}grad_l2", index + 1, ours.shape) > 1e-9
    for prefix, tight in (("", None), (FLOAT64_RUN, V3_NORMS_FLOAT64)):
        array = f"{prefix}grad_l2"
        recorded = trace.of_step(array, index + 1, ours.shape)[real]
        title = "gradient norms"
        yield Row(title, array, ours[real], gates["norms"], tight, recorded)
        yield Row(f"{title}, together", array, ours[real], V3_ALL_GRADIENTS, tight, recorded)


def _state(trace: Trace, replay: V3Replay, number: int) -> Iterator[Row]:
    """Both networks and the optimizer's memory after step `number`, where they are recorded."""
    for prefix in ("", FLOAT64_RUN):
        for name, variable in replay.variables.items():
            array = f"{prefix}step{number}/{name}"
            if array in trace.arrays:
                found = to_torch(variable.numpy())
                trace.require(array, found.shape)
                yield from _rows_of(trace, replay, array, name, found, number)
        for name, slot, variable in replay.slots():
            array = f"{prefix}step{number}_opt/{name}/{slot}"
            if array in trace.arrays:
                found = to_torch(variable.numpy())
                trace.require(array, found.shape)
                recorded, noise = trace.arrays[array], _noise(name, found.shape, trace)
                gate = V3[trace.settings.kind]["slots"]
                title = f"optimizer's {slot}"
                yield Row(title, array, found[~noise], gate, V3_ROUNDED, recorded[~noise])
                yield from _of_rounding(array, found, recorded, noise, V3_ROUNDING)


def _rows_of(
    trace: Trace, replay: V3Replay, array: str, name: str, found: Any, number: int
) -> Iterator[Row]:
    s, recorded = trace.settings, trace.arrays[array].astype(np.float64)
    side, leaf = ("key" if name.startswith("momentum") else "query"), name.rsplit(".", 1)[1]
    kind, scale = f"{side} parameters{', 1-D' if recorded.ndim == 1 else ''}", np.array(1.0)
    if leaf == "running_mean":
        kind, scale = "running means", np.sqrt(trace.arrays[array[:-4] + "var"].astype(np.float64))
    elif leaf == "running_var":
        kind = "running variances"
    noise = _noise(name, recorded.shape, trace)
    if not noise.all():
        scale = np.broadcast_to(scale, recorded.shape)[~noise]
        gate = V3[s.kind][kind]
        yield Row(kind, array, found[~noise], gate, V3_ROUNDED, recorded[~noise], scale)
    # Steps of the size of the rate, whichever way rounding goes.
    rates = sum(s.scheduled(step)[0] for step in range(number))
    gate = Gate(absolute, V3[s.kind]["running means"].tolerance + 2 * rates)
    yield from _of_rounding(array, found, recorded, noise, gate)


def _of_rounding(
    array: str, found: np.ndarray, recorded: np.ndarray, noise: np.ndarray, gate: Gate
) -> Iterator[Row]:
    if noise.any():
        tight = Gate(absolute, max(1e-9, V3_ROUNDED.tolerance * np.abs(recorded).max()))
        yield Row("what only rounding moves", array, found[noise], gate, tight, recorded[noise])


def _noise(name: str, shape: tuple[int, ...], trace: Trace) -> np.ndarray:
    """Elements of a ViT whose exact gradient is 0, and the statistics that follow them.

    LayerNorm's last shift is removed by the BatchNorm after it, and softmax does not see the keys'
    bias. AdamW divides the rounding of their gradients by its own size.
    """
    noise, width = np.zeros(shape, bool), trace.settings.width
    if ".attn.qkv.bias" in name:
        noise[width : 2 * width] = True
    elif "encoder.norm.bias" in name or name.endswith("head.1.running_mean"):
        noise[:] = True
    return noise
