"""Ctrl-C and SIGTERM while training: the step ends, the state is saved, the exit code tells."""

import signal


class Interrupted(Exception):  # noqa: N818 - not an error: the run is saved and can go on
    """Ctrl-C or SIGTERM: the step was finished and saved. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"interrupted at step {step}; saved. The same command goes on from there.")
        self.exit_code = 128 + signal_number


class StopSignals:
    """While open, SIGINT and SIGTERM only set `signal`, so that the step ends and is saved."""

    def __init__(self):
        self.signal: int | None = None

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
