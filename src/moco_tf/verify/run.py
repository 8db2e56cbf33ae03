"""verify_files: from files to the largest error of each quantity."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.training.schedules import learning_rate
from moco_tf.verify import demo, official, v3
from moco_tf.verify.replay import Replay
from moco_tf.verify.report import Ledger
from moco_tf.verify.table import Row, compare_rows
from moco_tf.verify.tolerances import LEARNING_RATE
from moco_tf.verify.traces import Trace, bundled_traces, read_trace

KINDS = {"official": official, "demo": demo, "v3": v3}


def verify_files(paths: Sequence[str] = (), *, devices: int | None = None, float64=False) -> dict:
    """Replays recorded steps of the official code and compares everything they recorded.

    Args:
        paths: .npz files of recorded steps. Empty: those that come with the package.
        devices: replay on this many devices; a file whose number of BatchNorm groups they do not
            divide uses as many of them as do, which its result tells. None: all GPUs, or one CPU.
        float64: replay in float64 and compare with the recorded float64 run more tightly.

    Returns:
        {"ok", "precision", "devices", "files": [{"file", "kind", "devices", "steps", "precision",
        "ok", "first_failure", "quantities"}]}; a first failure and each of the quantities has
        "quantity", "step" (1, 2, ...), "array", "error" (None if not finite) and "tolerance".

    Raises:
        InputError: a file is no trace, or does not go with `devices`; the message names it.
    """
    if devices is not None and devices < 1:
        raise InputError(f"devices must be at least 1; received devices={devices}.")
    traces = [read_trace(path) for path in (paths or bundled_traces())]
    counts = [_device_count(trace, devices) for trace in traces]
    make_strategy(max(counts))  # virtual devices are made once, as many as any file needs
    dtype = "float64" if float64 else "float32"
    with _full_float32():
        files = [_verify(trace, count, dtype) for trace, count in zip(traces, counts, strict=True)]
    return {
        "ok": all(file["ok"] for file in files),
        "precision": dtype,
        "devices": devices or max(counts),
        "files": files,
    }


def _verify(trace: Trace, devices: int, dtype: str) -> dict:
    kind, ledger = KINDS[trace.kind], Ledger()
    if kind is v3:
        ledger, dtype = _verify_v3(trace, make_strategy(devices), dtype)
    else:
        for name, shape, kinds in kind.arrays(trace.settings):
            trace.require(name, shape, kinds)
        if _permutations_hold(trace, ledger):
            _replay(trace, ledger, make_strategy(devices), dtype)
    return {
        "file": trace.file,
        "kind": kind.DESCRIPTION,
        "devices": devices,
        "steps": trace.settings.steps,
        "precision": dtype,
        **ledger.result(),
    }


def _verify_v3(trace: Trace, strategy, dtype: str) -> tuple[Ledger, str]:
    """What was found, and in which precision.

    In float32 a ReLU near 0 may be on its other side, which moves many gradients by percents. In
    float64 it is on that of the recorded float64 run, so float64 decides where float32 is off.
    """
    ledger = Ledger()
    v3.verify(trace, ledger, strategy, dtype)
    if ledger.first_failure is None or dtype == "float64":
        return ledger, dtype
    decisive = Ledger()
    v3.verify(trace, decisive, strategy, "float64")
    return decisive, "float64"


def _replay(trace: Trace, ledger: Ledger, strategy, dtype: str) -> None:
    """Runs the steps from each state that was recorded whole, and compares what was recorded."""
    kind, s = KINDS[trace.kind], trace.settings
    encoder = {"block": s.block, "blocks": s.layers, "image_size": s.size, "width": s.width}
    method = {"queue_size": s.K, "key_momentum": s.m, "temperature": s.T, "symmetric": s.symmetric}
    replay = Replay(
        encoder=encoder | {"dim": s.dim} | kind.encoder_settings(s),
        method=method,
        batch_size=s.images,
        sgd={"momentum": s.mom, "weight_decay": s.wd},
        strategy=strategy,
        dtype=dtype,
    )
    for done, state in kind.starts(trace, replay):
        replay.assign(state)
        for index in range(done, s.steps):
            rate = learning_rate(
                index,
                steps_per_epoch=s.steps_per_epoch,
                epochs=s.epochs,
                base=s.lr,
                schedule="cosine" if s.cos else "step",
                milestones=s.schedule or (),
                drop=0.1,
                unit="epoch",
                first_epoch=kind.FIRST_EPOCH,
            )
            view1, view2, permutations = kind.inputs(trace, index)
            step = replay.step(view1, view2, permutations, rate)
            stored_rate = trace.arrays["lr"].dtype.type(rate)
            rows = [Row("learning rate", "lr", stored_rate, LEARNING_RATE)]
            rows += kind.rows(trace, replay, step, index + 1)
            options = {"double": dtype == "float64", "restarted": done > 0}
            compare_rows(rows, trace, index + 1, ledger, **options)


def _permutations_hold(trace: Trace, ledger: Ledger) -> bool:
    """Notes, for each step, how many images of the batch its shuffle leaves out."""
    for index, step in enumerate(trace.arrays["idx_shuffle"]):
        rows = np.atleast_2d(step)  # [directions, B]
        missing = sum(row.size - np.intersect1d(row, np.arange(row.size)).size for row in rows)
        if missing:
            ledger.add("shuffle permutation", index + 1, "idx_shuffle", missing, 0)
    return ledger.first_failure is None


def _device_count(trace: Trace, devices: int | None) -> int:
    """Devices to use of those asked for: a BatchNorm group lies on one device, but of MoCo v3."""
    s = trace.settings
    if trace.kind == "v3":
        groups = s.batch
    else:
        groups = s.images // KINDS[trace.kind].encoder_settings(s)["group_size"]
    available = devices or len(tf.config.list_physical_devices("GPU")) or 1
    return max(count for count in range(1, available + 1) if groups % count == 0)


@contextmanager
def _full_float32() -> Iterator[None]:
    """While open, GPUs multiply float32 in float32 and not in TensorFloat-32."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
