"""Waiting until all workers are there, before TensorFlow waits for them and cannot be stopped."""

from __future__ import annotations

import socket
import time

from moco_tf.distribute.cluster import Cluster
from moco_tf.errors import InputError

_PAUSE = 0.2  # seconds between two tries


def wait_for_workers(cluster: Cluster, timeout: float) -> None:
    """Returns when every other worker answers at its address, as this one does until then.

    Args:
        timeout: seconds.

    Raises:
        InputError: this worker's port is taken, or somebody has not come in time.
    """
    deadline = time.monotonic() + timeout
    port = int(cluster.workers[cluster.index].rpartition(":")[2])
    try:
        own = socket.create_server(("", port), backlog=len(cluster.workers) + 8)
    except OSError as error:
        raise InputError(
            f"{cluster.name(cluster.index)} cannot use its port ({error.strerror}). Give it a free "
            f"one in --workers, for every worker."
        ) from None
    with own:
        absent = [index for index in range(len(cluster.workers)) if index != cluster.index]
        while absent := [index for index in absent if not _answers(cluster.workers[index])]:
            if time.monotonic() > deadline:
                names = ", ".join(cluster.name(index) for index in absent)
                raise InputError(
                    f"{names} did not come within {timeout:g} s. Start the same command on every "
                    f"worker, or raise --worker-timeout."
                )
            time.sleep(_PAUSE)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except OSError:
        return False
