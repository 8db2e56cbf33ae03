"""The tf.distribute strategy of a run: one device, several of a machine, or of several processes.

A replica is a GPU, a virtual CPU device, or the CPU of one of several processes.
"""

import functools

import tensorflow as tf
from tensorflow.python.eager import context

from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.collectives import sum_in_order
from moco_tf.errors import InputError


def default_devices(groups: int, workers: int = 1) -> int:
    """Returns the largest number of GPUs that `groups` BatchNorm groups spread over; 1 on a CPU.

    Args:
        workers: processes that have that many GPUs each.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    return max((n for n in range(1, gpus + 1) if groups % (n * workers) == 0), default=1)


@functools.cache  # a second strategy of one size would fall out with the first over collectives
def make_strategy(
    devices: int, cluster: Cluster | None = None, timeout: float = 1800.0
) -> tf.distribute.Strategy:
    """Returns the strategy for `devices` devices on this machine, together with the other workers'.

    Args:
        devices: number of GPUs, or of virtual CPU devices where there is no GPU.
        cluster: the processes, of which each has that many devices; waits for all of them.
        timeout: seconds for them to come.

    Raises:
        InputError: more GPUs asked for than there are, virtual CPU devices asked for after
            TensorFlow has started or beside other processes, or no connection to those.
    """
    gpus = tf.config.list_physical_devices("GPU")
    count = devices
    if gpus and count > len(gpus):
        raise InputError(
            f"devices must be at most the number of GPUs, {len(gpus)}; received devices={count}."
        )
    if cluster:
        return _multi_worker(count, bool(gpus), cluster, timeout)
    if count == 1:
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    _split_cpu(count)
    # Not the default collectives: one process could then use only one number of devices.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(count)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(accumulation_fn=sum_in_order),
    )


def _multi_worker(
    devices: int, gpu: bool, cluster: Cluster, timeout: float
) -> tf.distribute.Strategy:
    if devices > 1 and not gpu:
        raise InputError(
            f"devices must be 1 on a CPU with several workers; received devices={devices}. Start "
            f"more workers instead."
        )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": devices} if gpu else {},
        rpc_layer="grpc",
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        _refuse_other_devices(devices, cluster, timeout)
        return strategy
    except RuntimeError:
        raise InputError(
            "workers must be connected before TensorFlow starts, and it has started. Use a fresh "
            "process."
        ) from None
    except tf.errors.OpError as error:
        raise InputError(
            f"{cluster.name(cluster.index)} could not be connected with the others of workers="
            f"{','.join(cluster.workers)}: {str(error.message).splitlines()[0][:200]}."
        ) from None


def _refuse_other_devices(devices: int, cluster: Cluster, timeout: float) -> None:
    """Each worker must have as many, or the first exchange of all would never end."""
    service = context.context()
    service.set_config_key_value(f"moco_tf/devices/{cluster.index}", str(devices))
    for index in range(len(cluster.workers)):
        theirs = service.get_config_key_value(f"moco_tf/devices/{index}", int(1000 * timeout))
        if int(theirs) != devices:
            raise InputError(
                f"devices must be the same for all workers; received devices={devices} for "
                f"{cluster.name(cluster.index)} and {theirs} for {cluster.name(index)}. Give all "
                f"of them the same --devices."
            )


def worker_place(strategy) -> tuple[int, int]:
    """Returns (number of the worker that this process is, number of workers)."""
    resolver = strategy.cluster_resolver
    workers = len(resolver.cluster_spec().as_dict().get("worker", ())) if resolver else 0
    return (resolver.task_id, workers) if workers else (0, 1)


def replica_sum(strategy, value):
    """Sum of a per-replica value, always in the order of the replicas."""
    return sum_in_order(strategy.experimental_local_results(value))


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
