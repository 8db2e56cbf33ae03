"""The folder of this machine that a run works in, be its own one here or in an object store.

Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from moco_tf.errors import InputError
from moco_tf.files.atomic import make_folder, take_lock
from moco_tf.files.store import cache_of, is_url
from moco_tf.runs.remote import RemoteFolder


def local_folder(run_dir: str) -> Path | None:
    """Returns the folder that `run_dir` is on this machine; None: it is on another file system."""
    return None if is_url(path := run_dir.removeprefix("file://")) else Path(path)


@contextlib.contextmanager
def working_folder(
    run_dir: str, say: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[Path, RemoteFolder | None]]:
    """Gives the folder of this machine that a run works in, and where it is copied to, if it is.

    The copy of a remote folder is in the user's cache, and deleted at the end but for one that
    could not be sent: the next start on this machine goes on from that. `say`: see `RemoteFolder`.

    Raises:
        InputError: the store is not known or does not answer, or another process of this machine
            uses the folder.
    """
    folder = local_folder(run_dir)
    if folder is not None:
        yield folder, None
        return
    cache = cache_of(run_dir)
    remote = RemoteFolder(run_dir, cache / "run", say)
    make_folder(cache)
    with open(cache / "lock", "w", encoding="utf-8") as lock:
        in_use = (
            f"run_dir={run_dir} is in use by another process of this machine. Wait for it to end, "
            f"or use another --run-dir."
        )
        take_lock(lock, lambda: in_use)
        remote.fetch()
        try:
            yield remote.copy, remote
        except BaseException as error:
            try:
                remote.finish(patient=False)
                shutil.rmtree(cache)
            except InputError as unsent:
                if unsent is not error:
                    say(str(unsent))
            raise
        remote.finish(patient=True)
        shutil.rmtree(cache)
