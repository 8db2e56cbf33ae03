"""Ctrl-C and SIGTERM: in training the step ends and the state is saved; elsewhere all ends at once.

The exit code tells which signal it was.
"""

import signal
import threading

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


class Abandoned(Interrupted):
    """Ctrl-C or SIGTERM in work of which no part is worth keeping. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int, what: str):
        Exception.__init__(self, f"interrupted: {what}")
        self.exit_code = 128 + signal_number


class StopSignals:
    """While open, SIGINT and SIGTERM only set `signal`, so that the step ends and is saved."""

    def __init__(self):
        self.signal: int | None = _received[-1] if _received else None

    def __enter__(self):
        self._old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: nobody can signal us here
                break
        return self

    def _note(self, number, frame):
        self.signal = number

    def __exit__(self, *exc_info):
        for number, handler in self._old.items():
            signal.signal(number, handler)
