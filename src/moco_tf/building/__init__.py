"""From a `Config` to the objects of a run: images, batches, devices, method, step, schedules."""

from moco_tf.building.batches import (
    build_batches,
    build_finish,
    build_images,
    build_making,
    build_strategy,
)
from moco_tf.building.method import (
    Method,
    build_method,
    build_schedule,
    build_schedules,
    build_step,
    use_xla,
)
from moco_tf.building.precision import with_precision

__all__ = [
    "Method",
    "build_batches",
    "build_finish",
    "build_images",
    "build_making",
    "build_method",
    "build_schedule",
    "build_schedules",
    "build_step",
    "build_strategy",
    "use_xla",
    "with_precision",
]
