"""A Keras model's architecture as text: Keras's own JSON, without weights, code or pickle.

Names that Keras numbered are numbered anew, so that the text does not depend on what the process
has built before.
"""

import contextlib
import json
import random
import re

import keras

from moco_tf.errors import InputError
from moco_tf.models.array_names import automatic, unused
from moco_tf.models.batch_norm import GroupBatchNorm


def to_text(model: keras.Model) -> str:
    """Returns the architecture of a model that is built: functional, Sequential or with get_config.

    Raises:
        InputError: if Keras cannot write it down, or a Lambda is in it.
    """
    try:
        tree = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except Exception as error:  # whatever the model's get_config raises
        raise InputError(
            f"backbone {model.name}: Keras cannot write its architecture down "
            f"({keras_reason(error)}). Give its classes a get_config."
        ) from None
    names: dict[str, str] = {}
    taken = {one["config"]["name"] for one in _objects(tree) if not _automatic(one)}
    for one in _objects(tree):
        name, base = one["config"]["name"], _automatic(one)
        if one["class_name"] == "Lambda":
            raise InputError(
                f"backbone: layer {name} is a Lambda, whose code cannot be kept without pickle. "
                f"Write it as a layer with get_config, or with keras.ops."
            )
        if base and name not in names:
            names[name] = unused(base, taken)
    # runs/folder.py writes it anew in this form: config.json has its digest.
    return json.dumps(_cleaned(tree, names), sort_keys=True, separators=(",", ":"))


def from_text(
    text: str,
    *,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    groups: dict | None = None,
) -> keras.Model:
    """Returns a new model of the architecture.

    Args:
        text: of `to_text`.
        dtype: policy of all its layers; none: their own.
        name: of the model; none: its own.
        groups: settings of `GroupBatchNorm`, which takes the place of every BatchNormalization;
            none: that stays.

    Raises:
        InputError: if a class is not known in this process.
    """
    dtype = dtype and keras.dtype_policies.get(dtype).name
    tree = _exchanged(json.loads(text), dtype, groups)
    before = keras.config.dtype_policy()
    try:
        if dtype is not None:  # of layers that other layers make
            keras.config.set_dtype_policy(dtype)
        model = keras.saving.deserialize_keras_object(tree, safe_mode=True)
    except Exception as error:  # whatever its classes raise
        raise InputError(
            f"backbone: Keras cannot build its architecture ({keras_reason(error)}). Import the "
            f"module that has its classes first; they need "
            f"@keras.saving.register_keras_serializable()."
        ) from None
    finally:
        keras.config.set_dtype_policy(before)
    if name is not None:
        model.name = name
    return model


@contextlib.contextmanager
def drawn_by(seed: int):
    """Keras draws by `seed` what has no seed of its own: weights, and those of random layers."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _objects(tree):
    """Every layer, model or operation in the JSON, from the outside in."""
    if isinstance(tree, dict):
        config = tree.get("config")
        named = isinstance(config, dict) and isinstance(config.get("name"), str)
        if named and tree.get("class_name") not in (None, "DTypePolicy"):
            yield tree
    for value in _values(tree):
        yield from _objects(value)


def _automatic(tree):
    return automatic(tree["config"]["name"], tree["class_name"])


def _values(tree):
    if isinstance(tree, dict):
        return tree.values()
    return tree if isinstance(tree, list) else ()


def _cleaned(tree, names):
    """The JSON with new names, and without what was compiled to train it."""
    if isinstance(tree, dict):
        kept = {key: _cleaned(v, names) for key, v in tree.items() if key != "compile_config"}
        if isinstance(kept.get("name"), str):
            kept["name"] = names.get(kept["name"], kept["name"])
        return kept
    if isinstance(tree, list):
        # [layer, node, tensor]: where a tensor comes from.
        if len(tree) == 3 and isinstance(tree[0], str) and all(type(n) is int for n in tree[1:]):
            return [names.get(tree[0], tree[0]), *tree[1:]]
        return [_cleaned(value, names) for value in tree]
    return tree


def _exchanged(tree, dtype, groups):
    if isinstance(tree, list):
        return [_exchanged(value, dtype, groups) for value in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: _exchanged(value, dtype, groups) for key, value in tree.items()}
    config = tree.get("config")
    if dtype is not None and "class_name" in tree and isinstance(config, dict):
        if tree["class_name"] == "InputLayer":
            tree["config"] = config | {"dtype": keras.DTypePolicy(dtype).compute_dtype}
        elif "dtype" in config and "name" in config:
            tree["config"] = config | {"dtype": dtype}
    kind = (tree.get("module"), tree.get("class_name"))
    if groups is not None and kind == ("keras.layers", "BatchNormalization"):
        return _grouped(tree, groups)
    return tree


def _grouped(tree, groups):
    """The JSON of a `GroupBatchNorm` with the settings of a BatchNormalization."""
    config = tree["config"]
    if config.get("renorm"):
        raise InputError(
            f"backbone: layer {config['name']} is BatchNormalization with renorm=True, which has "
            f"no groups. Use renorm=False."
        )
    kept = {name: config[name] for name in GroupBatchNorm.KEPT if name in config}
    return tree | {
        "module": GroupBatchNorm.__module__,
        "class_name": "GroupBatchNorm",
        "registered_name": "moco_tf>GroupBatchNorm",
        "config": kept | groups,
    }


def keras_reason(error: Exception) -> str:
    """What an error that Keras passed on says, in one line, without what Keras put around it."""
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    text = text.rpartition("Exception encountered: ")[2]
    text = re.sub(r"^Exception encountered when calling .*?\.call\(\)\. ", "", text)
    text = re.split(r" (?:Example:|Full object config|config=|Arguments received by)", text)[0]
    return text[:300] or type(error).__name__
