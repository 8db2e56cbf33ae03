"""Wall time of training steps, and of what is not one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import SimpleNamespace


class StepClock:
    """Wall time, and time spent waiting for data, since the last logging point.

    The first step of a process, which compiles, counts for speed only where it stands alone.
    """

    def __init__(self):
        self._first: float | None = None  # seconds of the first step, until they are told
        self._taken = 0.0
        self._restart()

    def _restart(self):
        self.steps, self._waited, self._excluded = 0, 0.0, 0.0
        self._started = time.perf_counter()

    def end_of_first_step(self) -> float:
        """Returns the seconds that it took."""
        self._first = self._seconds()
        self._restart()
        return self._first

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While open, time counts as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @contextlib.contextmanager
    def excluded(self) -> Iterator[SimpleNamespace]:
        """While open, time does not count; gives its `seconds` at the end."""
        spent, started = SimpleNamespace(seconds=0.0), time.perf_counter()
        yield spent
        spent.seconds = time.perf_counter() - started
        self._excluded += spent.seconds

    def lap(self) -> float:
        """Returns the seconds until now, which `close` then leaves out of its own; goes on."""
        seconds = (self._first or 0.0) + self._seconds() - self._taken
        self._taken += seconds
        return seconds

    def close(self, batch_size: float) -> dict[str, float]:
        """Returns seconds not taken, and, if there was a step, images_per_second and data_wait.

        The latter is a share. Starts anew.
        """
        first, seconds = self._first or 0.0, self._seconds()
        steps, timed = (self.steps, seconds) if self.steps else (1, first)
        result = {"seconds": first + seconds - self._taken}
        if timed:
            result["images_per_second"] = steps * batch_size / timed
            result["data_wait"] = min(self._waited / timed, 1.0)
        self._first, self._taken = None, 0.0
        self._restart()
        return result

    def _seconds(self) -> float:
        return time.perf_counter() - self._started - self._excluded
