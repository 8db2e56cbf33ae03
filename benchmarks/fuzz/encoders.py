"""The arrays of a narrow ResNet-18, and a network that is built once for each config."""

import functools

import numpy as np


def config():
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES

    sizes = {"width": 2, "image_size": 16, "dim": 4, "batch_size": 16, "group_size": 8}
    return make_config(RECIPES["shapes"].config, sizes | {"queue_size": 20})


def encoder_extra() -> dict:
    return {"config": config().model_dump(mode="json"), "origin": {"source": "a", "epoch": 2}}


@functools.cache
def encoder_arrays(names: str) -> dict[str, np.ndarray]:
    """By our names in a checkpoint ("ours"), or by PyTorch's ("torch")."""
    from moco_tf.models.torch_names import to_torch, torch_name
    from moco_tf.runs.encoders import untrained_encoder
    from moco_tf.runs.snapshot import QUERY_ENCODER

    variables = untrained_encoder(config()).model.variables
    if names == "ours":
        return {QUERY_ENCODER + "/".join(v.path.split("/")[-2:]): v.numpy() for v in variables}
    return {torch_name(v.path): np.ascontiguousarray(to_torch(v.numpy())) for v in variables}


def built() -> None:
    """From now on a network is built once for each config: it takes a second, and reads nothing."""
    from moco_tf.convert import reading
    from moco_tf.runs import encoders

    build = functools.lru_cache(8)(encoders.build_encoder)

    def untrained_encoder(config):
        names = ("image_size", "stem", "width", "head", "dim", "group_size", "group_layout")
        settings = {name: getattr(config, name) for name in (*names, "running_statistics")}
        return build(config.encoder, **settings, dtype="float32", seed=0)

    encoders.untrained_encoder = reading.untrained_encoder = untrained_encoder
