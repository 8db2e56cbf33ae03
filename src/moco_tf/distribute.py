"""The tf.distribute strategy of a run: one device, or several GPUs or virtual CPU devices."""

import functools

import tensorflow as tf

from moco_tf.errors import InputError


def default_devices(groups: int) -> int:
    """Returns the largest number of GPUs that `groups` BatchNorm groups spread over; 1 on a CPU."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return max((n for n in range(1, gpus + 1) if groups % n == 0), default=1)


@functools.cache  # a second strategy of one size would fall out with the first over collectives
def make_strategy(devices: int) -> tf.distribute.Strategy:
    """Returns the strategy for `devices` devices on this machine.

    Args:
        devices: number of GPUs, or of virtual CPU devices where there is no GPU.

    Raises:
        InputError: more GPUs asked for than there are, or virtual CPU devices asked for after
            TensorFlow has started.
    """
    gpus = tf.config.list_physical_devices("GPU")
    count = devices
    if gpus and count > len(gpus):
        raise InputError(
            f"devices must be at most the number of GPUs, {len(gpus)}; received devices={count}."
        )
    if count == 1:
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    _split_cpu(count)
    # Not the default collectives: one process could then use only one number of devices.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(count)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(accumulation_fn=_sum_in_order),
    )


def replica_sum(strategy, value):
    """Sum of a per-replica value, always in the order of the replicas."""
    return _sum_in_order(strategy.experimental_local_results(value))


def replica_mean(strategy, value):
    """Mean of a per-replica value, summed in the order of the replicas."""
    return replica_sum(strategy, value) / strategy.num_replicas_in_sync


def _sum_in_order(tensors):
    """What AddN does not promise: it begins with whichever tensor it can write to."""
    return functools.reduce(tf.add, tensors)


def own_share(*tensors):
    """Returns this replica's part of each [B, ...]: B / R rows, in replica order."""
    context = tf.distribute.get_replica_context()
    size = tensors[0].shape[0] // context.num_replicas_in_sync
    start = context.replica_id_in_sync_group * size
    return tuple(tensor[start : start + size] for tensor in tensors)


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu) or []
    if len(configured) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:
        raise InputError(
            f"devices={count} virtual CPU devices must be made before TensorFlow starts, and it "
            f"has started with {max(len(configured), 1)}. Use a fresh process."
        ) from None
