"""A finished pack in an object store: copied once to this machine's cache, and read there.

Every epoch reads the images in a new random order, so that in a store each image of each epoch
would be a request that takes tens of milliseconds and costs money.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from moco_tf.data.source_kind import PACK_INDEX
from moco_tf.errors import InputError
from moco_tf.files.atomic import make_folder, wait_for_lock
from moco_tf.files.store import Store, cache_of


def copy_pack(url: str) -> Path:
    """Returns the folder that the pack at `url` is copied to; what is whole there stays.

    A pack that is replaced in the store gets a new folder. Says on stderr how much is copied.

    Raises:
        InputError: the store cannot be read, holds no finished pack there, or is too large.
    """
    store = Store(url, "data")
    with store.told("read"):
        sizes = store.names()
        if PACK_INDEX not in sizes:
            raise InputError(
                f"data={url} holds no finished pack: it has no {PACK_INDEX}. Make one with "
                f"'moco-tf pack FOLDER PACK', and copy PACK there."
            )
        folder = cache_of(store.url + store.files.ukey(store.path(PACK_INDEX)))
        make_folder(folder)
        with open(folder / ".lock", "wb") as lock:
            wait_for_lock(lock)  # another process may be copying it
            here = {path.name: path.stat().st_size for path in folder.iterdir()}
            wanted = [name for name in sizes if name == PACK_INDEX or name.startswith("images-")]
            missing = [name for name in wanted if here.get(name) != sizes[name]]
            size, free = sum(sizes[name] for name in missing), shutil.disk_usage(folder).free
            if size > free:
                raise InputError(
                    f"data={url} takes {size / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB "
                    f"are free. Set XDG_CACHE_HOME to a folder on a larger disk."
                )
            if missing:
                print(f"copying {size / 1e9:.1f} GB of {url} to {folder}", file=sys.stderr)
            store.fetch(missing, folder)
    return folder
