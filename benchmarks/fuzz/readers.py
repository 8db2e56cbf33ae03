"""READERS: name -> what prepares its inputs and reads them.

Each function takes a folder for what it makes once, and returns (make, read, why not): `make` draws
an input, `read` gives it to the package and says "read" or "refused". A reason why not says what is
not installed. What the package's readers import comes with them.
"""

import readers_of_data as data
import readers_of_runs as runs
from itself import itself

READERS = {
    "image": data.image,
    "folder": data.folder,
    "data.npz": data.data_npz,
    "trace": data.trace,
    "pack": data.pack,
    "packing": data.packing,
    "yaml": runs.yaml,
    "run": runs.run,
    "checkpoint": runs.checkpoint,
    "progress": runs.progress,
    "encoder": runs.encoder,
    "converted": runs.converted,
    "torch": runs.torch,
}
ALL = READERS | {"itself": itself}
