"""A worker that keeps the others waiting for too long is named, and the others end."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.eager import context

from moco_tf.distribute.cluster import Cluster
from moco_tf.errors import LOST_EXIT_CODE

LATE = 5.0  # seconds after which a wait is made known


class Watchdog:
    """Counts this process's waits for others, and ends it when one lasts too long.

    The waiting thread cannot be freed from TensorFlow's call, so the process ends by itself here.
    Who has waited for some seconds says so in the coordination service, which the first worker
    keeps; who has not said so for this wait is who does not come.

    Args:
        timeout: seconds that a wait may last.
        advice: what the message ends with.
    """

    def __init__(self, cluster: Cluster, timeout: float, advice: str):
        self.cluster, self.timeout, self.advice = cluster, timeout, advice
        self._count = 0
        self._since: float | None = None
        threading.Thread(target=self._look, daemon=True).start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While open, this process waits for the others."""
        self._count += 1
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _look(self) -> None:
        known = None  # key of the wait that was made known
        while True:
            time.sleep(min(1.0, self.timeout / 8))
            since, count = self._since, self._count
            waited = 0.0 if since is None else time.monotonic() - since
            key = f"moco_tf/waits/{count}"
            if known not in (None, key) or (known and since is None):
                self._forget(f"{known}/{self.cluster.index}")
                known = None
            if since is not None and known is None and waited > min(LATE, self.timeout / 2):
                self._tell(f"{key}/{self.cluster.index}")
                known = key
            if since is not None and waited > self.timeout:
                absent = self._absent(key)
                if self._count == count and self._since is not None:  # none came meanwhile
                    self._end(absent)

    def _end(self, absent: list[int]) -> None:
        names = ", ".join(self.cluster.name(index) for index in absent)
        who = f"{names} has not come" if absent else "no worker has come out of the step"
        why = "" if absent else ": a device or the network has failed, or the step takes longer"
        print(
            f"moco-tf: {who} for {self.timeout:g} s (worker_timeout){why}. {self.advice}",
            file=sys.stderr,
            flush=True,
        )
        if self.cluster.chief:
            time.sleep(LATE + len(self.cluster.workers))  # the others still ask here
        os._exit(LOST_EXIT_CODE)

    def _absent(self, key: str) -> list[int]:
        """Workers that have not made known that they wait at this place."""
        absent = []
        for index in range(len(self.cluster.workers)):
            try:
                context.context().get_config_key_value(f"{key}/{index}", 1000)
            except tf.errors.OpError:
                absent.append(index)
        return absent

    def _tell(self, key: str) -> None:
        with contextlib.suppress(tf.errors.OpError):
            context.context().set_config_key_value(key, "1")

    def _forget(self, key: str) -> None:
        with contextlib.suppress(tf.errors.OpError):
            context.context().delete_config_key_value(key)
