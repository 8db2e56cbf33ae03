"""Ctrl-C and SIGTERM: in training the step ends and the state is saved; elsewhere all ends at once.

SIGTERM may come with a time within which the process has to be gone. The exit code tells which
signal it was.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable

_received: list[int] = []  # by this process, outside of `StopSignals`


def stop_at_once() -> None:
    """From now on SIGINT and SIGTERM raise `KeyboardInterrupt(number)` in the main thread.

    Should a library swallow it, the training ends at its first step all the same.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _raise)


def stopped_exit_code(stopped: KeyboardInterrupt) -> int:
    """Returns the exit code for what `stop_at_once` raised; further signals change nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return 128 + (stopped.args[0] if stopped.args else signal.SIGINT)


def _raise(number, frame):
    _received.append(number)
    raise KeyboardInterrupt(number)


class Interrupted(Exception):  # noqa: N818 - not an error: the run is saved and can go on
    """Ctrl-C or SIGTERM: the step was finished and saved. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"interrupted at step {step}; saved. The same command goes on from there.")
        self.exit_code = 128 + signal_number

    @property
    def signal(self) -> int:
        """The signal's number."""
        return self.exit_code - 128


class Unsaved(Interrupted):
    """SIGTERM, and too little time left to save the last steps. `exit_code` is 143."""

    def __init__(self, signal_number: int, step: int, why: str):
        Exception.__init__(self, f"interrupted at step {step}, which is not saved: {why}")
        self.exit_code = 128 + signal_number


class Cancelled(Interrupted):
    """Ctrl-C or SIGTERM in work of which no part is worth keeping. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int, what: str):
        Exception.__init__(self, f"interrupted: {what}")
        self.exit_code = 128 + signal_number


class StopSignals:
    """While open, SIGINT and SIGTERM only set `signal`, so that the step ends and is saved.

    Args:
        seconds: after a SIGTERM, the process ends by itself when so many have gone by and this is
            still open, whatever it is doing: with `exit_message` on stderr and exit code 143.
        exit_message: one line.
    """

    def __init__(
        self, seconds: float | None = None, exit_message: Callable[[], str] = lambda: "interrupted."
    ):
        self.signal: int | None = _received[-1] if _received else None
        self._seconds, self._exit_message = seconds, exit_message
        self._deadline = math.inf
        self._interruptible = False
        self._closed = threading.Event()

    def __enter__(self):
        self._old = {}
        if threading.current_thread() is not threading.main_thread():
            return self  # nobody can signal us here
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._note)
        if self._seconds is not None:
            # Python's handlers run when TensorFlow returns; what is written here comes at once.
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
            if self.signal == signal.SIGTERM:
                os.write(self._pipe[1], bytes([self.signal]))
        return self

    def ask(self) -> None:
        """Asks for the end as Ctrl-C does."""
        self.signal = self.signal or signal.SIGINT

    def seconds_left(self) -> float:
        """Returns the time until the process ends by itself; infinite before a SIGTERM."""
        return self._deadline - time.monotonic()

    def run_interruptible(self, function: Callable[[], None]) -> bool:
        """Calls `function`, and gives it up at a signal; returns whether it came to its end."""
        try:
            try:
                self._interruptible = True
                if self.signal:
                    return False
                function()
            finally:
                self._interruptible = False
        except _Cancel:
            return False
        return True

    def _note(self, number, frame):
        self.signal = number
        if number == signal.SIGTERM:
            self._begin_countdown()
        if self._interruptible:
            self._interruptible = False
            raise _Cancel

    def _begin_countdown(self):
        if self._seconds is not None:
            self._deadline = min(self._deadline, time.monotonic() + self._seconds)

    def _watch(self):
        while (received := os.read(self._pipe[0], 1)) and received[0] != signal.SIGTERM:
            pass
        if not received:
            return
        self._begin_countdown()
        if not self._closed.wait(self._seconds):
            with contextlib.suppress(Exception):
                os.write(2, f"moco-tf: {self._exit_message()}\n".encode())
            os._exit(128 + signal.SIGTERM)  # a file that is being written has a temporary name

    def __exit__(self, *exc_info):
        self._closed.set()
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self._old and self._seconds is not None:
            signal.set_wakeup_fd(self._old_wakeup)
            os.close(self._pipe[1])
            self._watcher.join()
            os.close(self._pipe[0])


class _Cancel(BaseException):
    """A signal came while something was done that may be given up."""
