"""What a run is judged by, what it ends with, and what is raised where a batch cannot be read."""

from typing import Any

from moco_tf.building import Method
from moco_tf.config import Config
from moco_tf.data.failures import failure_of_step
from moco_tf.data.found import left_out
from moco_tf.data.sources import Images
from moco_tf.errors import InputError
from moco_tf.runs import checkpoint_file, variables
from moco_tf.training.health import health_settings
from moco_tf.training.memory import peak_memory_bytes
from moco_tf.training.progress import Progress, summary_of


def summary_with(
    config: Config, progress: Progress, method: Method, train: Images, test: Images | None
) -> dict:
    """What `summary.json` holds."""
    return summary_of(progress) | {
        "encoder": config.encoder,
        "left_out": left_out(train, test),
        "peak_memory_bytes": peak_memory_bytes(),
        "state_sha256": checkpoint_file.digest(variables.arrays_of(method.state())),
    }


def healthy(config: Config, train: Images) -> dict[str, Any]:
    """Settings of `health_messages`."""
    return health_settings(config) | {"blank_share": train.blank_share}


def failed(config: Config, train: Images, epoch_steps: int, error, *, step: int) -> InputError:
    """What to raise where a batch could not be read, here or, without an error, elsewhere."""
    if error is None:
        return InputError(
            f"an image could not be read by another worker after step {step}, which is saved. "
            f"{train.mend}"
        )
    return failure_of_step(
        error,
        images=train,
        advice=""
        if config.augment_function is None
        else f"{config.augment_function} made its views: if that is at fault, mend it and go on.",
        seed=config.seed,
        step=step,
        batch_size=config.batch_size,
        epoch_steps=epoch_steps,
        keyed=config.order == "keyed",
        unreadable=train.unreadable,
    )
