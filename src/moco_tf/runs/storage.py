"""Where a run's state is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from moco_tf.runs import checkpoint
from moco_tf.runs.remote import RemoteFolder


class RunStorage(NamedTuple):
    """The folder of the checkpoints, and where they are copied to.

    Attributes:
        check_lock: raises `InputError` if nothing may be written there any more.
    """

    folder: Path
    check_lock: Callable[[], None]
    remote: RemoteFolder | None = None

    def send(self) -> None:
        """Has what was saved copied to where it belongs, and does not wait for it."""
        if self.remote:
            self.remote.send()

    def finish(self) -> None:
        """Returns when what was saved is where it belongs; raises `InputError` if that fails."""
        if self.remote:
            self.remote.finish(patient=False)

    def exit_message(self, seconds: float | None, chief: bool) -> str:
        """Returns what a process says whose time to save, `preemption_seconds`, is over."""
        here = checkpoint.newest_step(self.folder)
        newest = self.remote.newest_step() if self.remote else here
        kept = f"checkpoint {newest} is kept" if newest is not None else "no checkpoint was written"
        if here != newest:
            kept += f" in the store, checkpoint {here} in {self.folder}"
        return (
            f"too little was left of preemption_seconds={seconds or 0:g}; "
            f"{kept if chief else 'the first worker says what is kept'}. The same command goes on "
            f"from there."
        )
