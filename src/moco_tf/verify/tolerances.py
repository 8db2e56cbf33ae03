"""How far a replay may be from a recording, and how that distance is measured.

The float32 gates are five to ten times the distance between the official code's own float32 and
float64 runs; see `traces/README.md`. A float64 replay is compared with the float64 run far tighter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def absolute(ours, recorded) -> float:
    """Largest absolute difference."""
    return float(np.max(np.abs(_double(ours) - _double(recorded)), initial=0.0))


def of_largest(ours, recorded) -> float:
    """Largest absolute difference over the recorded tensor's largest absolute value."""
    return absolute(ours, recorded) / _at_least_tiny(np.max(np.abs(_double(recorded)), initial=0.0))


def of_largest_or_least(ours, recorded) -> float:
    """The same over at least 1e-5: of a tensor of rounding alone, nothing can be asked."""
    largest = np.max(np.abs(_double(recorded)), initial=0.0)
    return absolute(ours, recorded) / max(largest, 1e-5)


def relative(ours, recorded) -> float:
    """Largest difference of an element relative to that element."""
    recorded = _double(recorded)
    return float(np.max(np.abs(_double(ours) - recorded) / _at_least_tiny(np.abs(recorded))))


def relative_l2(ours, recorded) -> float:
    """L2 norm of the difference over that of the recorded tensor."""
    recorded = _double(recorded)
    return float(
        np.linalg.norm(_double(ours) - recorded) / _at_least_tiny(np.linalg.norm(recorded))
    )


def _double(array) -> np.ndarray:
    return np.asarray(array, np.float64)


def _at_least_tiny(value):
    return np.maximum(value, np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Gate:
    """A measure of the error and the largest error allowed."""

    measure: Callable[..., float]
    tolerance: float


EQUAL = Gate(absolute, 0.0)
LEARNING_RATE = Gate(of_largest, 1e-12)  # recomputed in float64, so only the order may differ

# A float64 replay against the float64 run, whose tensors were rounded to float32 for storage, and
# against numbers of it that were not rounded.
ROUNDED = Gate(of_largest, 2e-7)
UNROUNDED = Gate(relative, 1e-10)
UNROUNDED_PROJECTIONS = Gate(of_largest, 1e-10)  # sums that cancel: some are near zero

# MoCo v1 and v2, several processes.
QUERIES = KEYS = QUEUE = Gate(absolute, 3e-5)
LOGITS = Gate(absolute, 7e-4)
LOSS = Gate(absolute, 1e-4)
ACCURACY = Gate(absolute, 1e-4)  # percent
PARAMETERS = {  # encoder -> (1-D, others)
    "encoder_q": (Gate(absolute, 6e-6), Gate(of_largest, 8e-6)),
    "encoder_k": (Gate(absolute, 2e-6), Gate(of_largest, 4e-6)),
}
RUNNING_MEAN = Gate(absolute, 2e-5)  # of means divided by the running standard deviation
RUNNING_VARIANCE = Gate(of_largest, 1e-4)
MOMENTUM_BUFFER = Gate(relative_l2, 5e-4)
MOMENTUM_BUFFERS = Gate(relative_l2, 1e-4)  # all of them as one vector

# The CIFAR demo. Its float32 error grows with the steps; a single gradient norm may be off by up to
# 2 % where a ReLU switches, all of them as one vector far less.
DEMO_QUERIES = (1e-5, 6e-5, 3e-4, 6e-4)
DEMO_KEYS = Gate(absolute, 6e-5)
DEMO_PROJECTIONS = DEMO_NORMS = Gate(absolute, 3e-4)
DEMO_GRADIENT = Gate(relative, 3e-2)
DEMO_GRADIENTS = Gate(relative_l2, 5e-3)
DEMO_STATISTICS_NORMS = Gate(relative, 3e-5)
DEMO_RUNNING_MEAN = Gate(absolute, 3e-4)  # of means divided by the running standard deviation
DEMO_RUNNING_VARIANCE = Gate(of_largest, 1e-4)

# MoCo v3, see the reference's section I. A ReLU or the max-pool that switches sides may move a few
# gradients, and what follows them, by more; all norms as one vector stay near.
V3 = {
    "resnet": {
        "queries": Gate(absolute, 5e-4),
        "keys": Gate(absolute, 2e-4),
        "loss": Gate(absolute, 2e-5),
        "norms": Gate(relative, 1e-3),
        "query parameters, 1-D": Gate(absolute, 6e-5),
        "query parameters": Gate(absolute, 2e-6),
        "key parameters, 1-D": Gate(absolute, 1e-5),
        "key parameters": Gate(absolute, 2e-6),
        "running means": Gate(absolute, 1e-5),
        "running variances": Gate(relative, 2e-5),
        "slots": Gate(of_largest, 1e-3),
    },
    "vit": {
        "queries": Gate(absolute, 4e-4),
        "keys": Gate(absolute, 1e-4),
        "loss": Gate(absolute, 2e-5),
        "norms": Gate(relative, 2e-4),
        "query parameters, 1-D": Gate(absolute, 3e-6),
        "query parameters": Gate(absolute, 6e-6),
        "key parameters, 1-D": Gate(absolute, 3e-6),
        "key parameters": Gate(absolute, 2e-6),
        "running means": Gate(absolute, 4e-6),
        "running variances": Gate(relative, 2e-5),
        "slots": Gate(of_largest, 1e-3),
    },
}
V3_ALL_GRADIENTS = Gate(relative_l2, 3e-4)
V3_ROUNDED = Gate(of_largest_or_least, 1e-7)
V3_ROUNDING = Gate(absolute, 1e-6)  # moments of gradients that are 0 but for rounding
V3_LOSS_FLOAT64 = Gate(absolute, 1e-12)
V3_NORMS_FLOAT64 = Gate(relative, 1e-9)
EXACTLY_SCHEDULED = Gate(absolute, 1e-12)


def demo_key_parameters(momentum: float) -> tuple[Gate, Gate]:
    """Gates of the projections and norms of the demo's key encoder.

    It takes over 1 - momentum of the query encoder, and of its error, a step. So its gates can be
    tight: with 0.99 a momentum update in the wrong place is off by 1.3e-5 and 1.7e-4, the right
    one by 3e-7 and 3e-6. Both grow with the share; of the error of the norms a part, 5e-6, is the
    rounding of the momentum itself and stays.
    """
    share = (1 - momentum) / 0.01
    projections, norms = 4e-6 * max(share, 0.2), 3e-5 * max(share, 0.5)
    return Gate(absolute, min(projections, 3e-4)), Gate(absolute, min(norms, 3e-4))


def demo_queries(step: int) -> Gate:
    """Gate of the demo's queries at step 1, 2, ...: those after the last known double each step."""
    known = len(DEMO_QUERIES)
    later = max(step - known, 0)
    return Gate(absolute, DEMO_QUERIES[min(step, known) - 1] * 2.0**later)
