"""The readers of configs, run folders, checkpoints and encoders of any make; see `readers`."""

import importlib.util
from pathlib import Path

from cases import broken


def yaml(given: Path):
    from texts import hostile_yaml

    from moco_tf.api.settings import resolve_config
    from moco_tf.recipes import RECIPES

    fields = RECIPES["moco-v2"].config.model_dump(mode="json")

    def read(case: Path) -> str:
        resolve_config(None, str(case / "a.yaml"), {})
        return "read"

    return lambda rng: {"a.yaml": hostile_yaml(rng, fields)}, read, ""


def run(given: Path):
    """The JSON files of a run folder: its config, its rows and its results."""
    from runs import hostile_run, read_run

    import moco_tf.training.reporting  # noqa: F401 - what it imports reads files of its own

    return hostile_run, read_run, ""


def checkpoint(given: Path):
    """Two checkpoints of a run, the newer one hostile."""
    import numpy as np
    from tensors import checkpoint as whole
    from tensors import hostile_checkpoint

    from moco_tf.runs import checkpoint as package

    arrays = {"queue": np.ones((4, 3), np.float32), "queue_pointer": np.array(2, np.int64)}
    older = whole(arrays, "3", '{"epoch": 1}')

    def make(rng):
        newer = hostile_checkpoint(rng, arrays, {"epoch": 1, "position": [1, {"a": 2}]})
        if rng.random() < 0.1:
            return {
                "step-00000007.safetensors": newer,
                "step-00000003.safetensors": broken(rng, older),
            }
        return {"step-00000007.safetensors": newer, "step-00000003.safetensors": older}

    def read(case: Path) -> str:
        package.load_latest(case, warn=lambda _: None)
        package.load(case / "step-00000007.safetensors")
        return "read"

    return make, read, ""


def progress(given: Path):
    """What a run or a probe goes on from: a checkpoint with right digests and any fields."""
    from dataclasses import asdict

    import numpy as np
    from tensors import checkpoint as whole
    from texts import hostile_json

    from moco_tf.evaluate import progress as of_classifiers
    from moco_tf.runs import checkpoint as package
    from moco_tf.training.progress import Progress, progress_of

    kinds = {"a": Progress, "b": of_classifiers.Progress}
    arrays = {"queue": np.ones((4, 3), np.float32)}

    def make(rng):
        name = rng.choice(list(kinds))
        text = hostile_json(rng, asdict(kinds[name](step=7)))
        return {f"{name}.safetensors": whole(arrays, "7", text.decode("utf-8", "replace"))}

    def read(case: Path) -> str:
        path = next(case.iterdir())
        _, step, extra = package.load(path)
        progress_of(kinds[path.stem], extra, step=step, folder=case)
        return "read"

    return make, read, ""


def encoder(given: Path):
    """An encoder in one file, whose config may not be that of its arrays."""
    from encoders import built, encoder_arrays, encoder_extra
    from tensors import hostile_checkpoint

    from moco_tf.runs.encoders import load_encoder

    arrays, extra = encoder_arrays("ours"), encoder_extra()
    built()

    def read(case: Path) -> str:
        load_encoder(case / "a.safetensors", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.safetensors": hostile_checkpoint(rng, arrays, extra)}, read, ""


def converted(given: Path):
    """Arrays with PyTorch's names in a safetensors file, of an encoder that may not be."""
    from encoders import built, encoder_arrays
    from tensors import hostile_safetensors

    from moco_tf.convert.reading import read_source

    arrays = encoder_arrays("torch")
    built()

    def read(case: Path) -> str:
        read_source(case / "a.safetensors", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.safetensors": hostile_safetensors(rng, arrays)}, read, ""


def torch(given: Path):
    """PyTorch's files, zipped and of the older kind, and pickles of others."""
    if not importlib.util.find_spec("torch"):
        return None, None, "torch is not installed"
    from encoders import built
    from torch_files import hostile_torch, whole_torch

    from moco_tf.convert.reading import read_source

    whole = whole_torch()
    built()

    def read(case: Path) -> str:
        read_source(case / "a.pth", warn=lambda _: None)
        return "read"

    return lambda rng: {"a.pth": hostile_torch(rng, whole)}, read, ""
