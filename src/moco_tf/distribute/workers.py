"""What the processes of a run agree on; a process that is alone agrees with itself.

Every worker calls the same methods in the same order: each call is a collective. Whoever is gone or
does not come is named, and the others end too, since no step can be taken without it.
"""

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.watchdog import Watchdog
from moco_tf.errors import InputError, WorkerLostError

LOST = (  # what TensorFlow says where another process is gone
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
MAYBE_LOST = (tf.errors.InternalError, tf.errors.UnknownError)  # or a GPU of this machine
AGAIN = "Start the same command on every worker again: it goes on from the last checkpoint."


class Workers:
    """The processes that train together.

    Args:
        strategy: of this process, made for `cluster`.
        cluster: none: this process is alone.
        timeout: seconds that a worker may keep the others waiting.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, cluster: Cluster | None, timeout: float = 1800.0
    ):
        self.strategy, self.cluster = strategy, cluster
        self.chief = cluster is None or cluster.chief
        self._watch = Watchdog(cluster, timeout, AGAIN) if cluster else None

    def all_reduce_max(self, number: int) -> int:
        """Returns the largest of what the workers give, for all of them."""
        return int(self.elementwise_max(np.array([number]))[0])

    def elementwise_max(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the largest at each place of what the workers give, integers [n], for all."""
        if self.cluster is None:
            return numbers
        with self.collective():
            rows = _of_all(self.strategy)(tf.constant(numbers, tf.int64)).numpy()
        return rows.reshape(-1, len(numbers)).max(axis=0)

    @contextlib.contextmanager
    def startup(self) -> Iterator[None]:
        """Work that each does by itself: an `InputError` of one ends all of them."""
        failure = None
        try:
            yield
        except InputError as error:
            failure = error
        failed = self.all_reduce_max(self._number if failure else -1)
        if failure:
            raise failure
        if failed >= 0 and self.cluster:
            raise InputError(
                f"{self.cluster.name(failed)} could not start; its own output says why."
            )

    def refuse_different(self, what: Mapping[str, str]) -> None:
        """Raises `InputError` where a worker has other values than the chief.

        Args:
            what: what a value is -> the value.
        """
        if self.cluster is None:
            return
        digests = [_number(value) for value in what.values()]
        with self.collective():
            rows = _of_all(self.strategy)(tf.constant(digests, tf.int64)).numpy()
        rows = rows.reshape(len(self.cluster.workers), -1, len(digests))[:, 0]
        for place, name in enumerate(what):
            others = np.flatnonzero(rows[:, place] != rows[0, place])
            if len(others):
                raise InputError(
                    f"{self.cluster.name(int(others[0]))} has another {name} than worker 0. Give "
                    f"every worker the same command, images and versions."
                )

    def from_chief(self, value: Any) -> Any:
        """Returns the chief's `value` of plain JSON, for all."""
        if self.cluster is None:
            return value
        text = json.dumps(value).encode() if self.chief else b""
        size = self.all_reduce_max(len(text))
        text += b" " * (size - len(text) + -size % 4)
        return json.loads(self._bits_of_chief(np.frombuffer(text, np.int32)).tobytes())

    def assign_from_chief(self, variables: Mapping[str, tf.Variable]) -> None:
        """Gives each variable the bits that the chief's has: no folder need be shared."""
        for variable in variables.values() if self.cluster else ():
            array = np.asarray(variable.numpy(), order="C")
            bits = self._bits_of_chief(array.reshape(-1).view(np.int32))
            variable.assign(bits.view(array.dtype).reshape(array.shape))

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """Work that needs all workers; raises `WorkerLostError` where one is gone."""
        if self.cluster is None or self._watch is None:
            yield
            return
        try:
            with self._watch.waiting():
                yield
        except (*LOST, *MAYBE_LOST) as error:
            text = str(error.message)
            if isinstance(error, MAYBE_LOST) and "ollective" not in text and "task:" not in text:
                raise
            raise WorkerLostError(f"{self._who(text)} {AGAIN}") from None

    def barrier(self) -> None:
        """Returns when all have come here: a process that goes takes its server with it."""
        self.all_reduce_max(0)
        with contextlib.suppress(WorkerLostError):  # who is gone now has heard of all
            self.all_reduce_max(0)

    @property
    def _number(self) -> int:
        return self.cluster.index if self.cluster else 0

    def _bits_of_chief(self, words: np.ndarray) -> np.ndarray:
        with self.collective():
            return _of_first(self.strategy)(tf.constant(words)).numpy()

    def _who(self, text: str) -> str:
        """Who is gone, by what TensorFlow says; the first worker keeps the coordination service."""
        numbers = [int(number) for number in re.findall(r"task:(\d+)", text)]
        others = [number for number in numbers if number != self._number]
        if not others and "CoordinationService" in text and self._number:
            others = [0]
        if self.cluster and others and others[-1] < len(self.cluster.workers):
            return f"{self.cluster.name(others[-1])} is gone; its own output may say why."
        why = " ".join(text.partition("aborted by:")[2].split()) or text.splitlines()[0]
        return f"the connection to the other workers broke ({why[:200]})."


@functools.cache
def _of_all(strategy):
    """What every replica has, [n] -> [R, n]."""

    def replica(numbers):
        return tf.distribute.get_replica_context().all_gather(numbers[None], axis=0)

    return _compiled(strategy, replica)


@functools.cache
def _of_first(strategy):
    """The first replica's words, int32 [n], whatever the others give."""

    def replica(words):
        context = tf.distribute.get_replica_context()
        mine = tf.where(context.replica_id_in_sync_group == 0, words, tf.zeros_like(words))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    return _compiled(strategy, replica)


def _compiled(strategy, replica):
    @tf.function(autograph=False, reduce_retracing=False)
    def of_every_replica(tensor):
        return strategy.experimental_local_results(strategy.run(replica, args=(tensor,)))[0]

    return of_every_replica


def _number(text: str) -> int:
    """63 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
