"""`--precision auto`: which arithmetic the encoders get on this machine."""

import os
import re
from pathlib import Path

import tensorflow as tf

from moco_tf.config import Config

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def with_precision(config: Config, there: Config | None = None) -> Config:
    """Returns `config` with its precision settled, as a run records it.

    bfloat16 where the processor multiplies in it and oneDNN is on, which has measured faster than
    float32; else float32. On a GPU nothing has been measured, so `auto` is float32 there.

    Args:
        there: config of the run that goes on; its precision is kept.
    """
    if config.precision != "auto":
        return config
    faster = "mixed_bfloat16" if _cpu_has_bfloat16() else "float32"
    return config.model_copy(update={"precision": there.precision if there else faster})


def _cpu_has_bfloat16() -> bool:
    """Whether the encoders run on a processor that is fast in bfloat16."""
    if tf.config.list_physical_devices("GPU") or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return False
    try:
        found = re.search(r"^flags\s*:(.*)$", CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # no Linux
        return False
    return bool(found and BFLOAT16_FLAGS & set(found[1].split()))
