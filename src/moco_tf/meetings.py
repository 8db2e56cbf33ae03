"""A worker that keeps the others waiting for too long is named, and the others end."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.eager import context

from moco_tf.cluster import Cluster
from moco_tf.errors import LOST_EXIT_CODE

SECONDS_TO_ASK = 5.0  # the workers that wait notice it within this time of each other


class Watch:
    """Counts this process's waits for others, and ends it when one lasts too long.

    The waiting thread cannot be freed from TensorFlow's call, so the process ends by itself here.
    Who waits says so in the coordination service, which the first worker keeps; who has not said
    so for this wait is who does not come.

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
        while True:
            time.sleep(min(1.0, self.timeout / 4))
            since, count = self._since, self._count
            if since is None or time.monotonic() - since < self.timeout:
                continue
            absent = self._absent(count)
            if self._since is None or self._count != count:  # it came while we asked
                continue
            names = ", ".join(self.cluster.name(index) for index in absent)
            who = f"{names} has not come" if absent else "all workers wait: the network has failed"
            print(
                f"moco-tf: {who} for {self.timeout:g} s (worker_timeout). {self.advice}",
                file=sys.stderr,
                flush=True,
            )
            if self.cluster.chief:
                time.sleep(SECONDS_TO_ASK)  # the others still ask here
            os._exit(LOST_EXIT_CODE)

    def _absent(self, count: int) -> list[int]:
        """Workers that do not wait at this place."""
        service = context.context()
        key = f"moco_tf/waits/{count}"
        with contextlib.suppress(tf.errors.OpError):
            service.set_config_key_value(f"{key}/{self.cluster.index}", "1")
        time.sleep(SECONDS_TO_ASK)
        absent = []
        for index in range(len(self.cluster.workers)):
            try:
                service.get_config_key_value(f"{key}/{index}", 1000)
            except tf.errors.OpError:
                absent.append(index)
        return absent
