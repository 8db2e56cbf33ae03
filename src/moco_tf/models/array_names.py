"""Names of a model's arrays, from its structure alone.

Keras numbers what has no name of its own by what the process has built before, so its paths differ
from one process to the next, and two models inside a third may use one path twice.
"""

import re
from collections import Counter
from typing import Any

import keras

SEED = "seed_generator_state"  # Keras's name of the variable that Dropout and its like draw from
_KERAS_CLASS = {"GroupBatchNorm": "BatchNormalization"}  # exchanged, and called as before


def array_names(model: keras.Model) -> list[str]:
    """Returns a name for each of `model.variables`, "LAYER/.../VARIABLE", all of them different.

    A layer keeps the name that its maker gave it. One that Keras numbered is numbered among its
    neighbours. A layer that is used in two places has the name of the first.
    """
    names: dict[int, str] = {}
    _name(model, "", names, set())
    return [names[id(variable)] for variable in model.variables]


def named_arrays(model: keras.Model) -> list[tuple[str, Any]]:
    """Returns (name, variable) of all variables but the seeds of layers that draw."""
    named = zip(array_names(model), model.variables, strict=True)
    return [(name, variable) for name, variable in named if variable.name != SEED]


def children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer or model, in their order."""
    if isinstance(layer, keras.Model):
        return layer.layers
    return list(layer._flatten_layers(include_self=False, recursive=False))


def within(layer: keras.Layer) -> list[keras.Layer]:
    """The layer itself and all layers inside it, each once, from the outside in."""
    found = {id(layer): layer}
    for child in children(layer):
        found |= {id(one): one for one in within(child) if id(one) not in found}
    return list(found.values())


def automatic(name: str, class_name: str) -> str | None:
    """What Keras calls every layer of a class, if `name` is that with or without a number."""
    class_name = _KERAS_CLASS.get(class_name, class_name)
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    base = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
    return base if re.fullmatch(rf"{re.escape(base)}(_\d+)?", name) else None


def _name(layer, prefix, names, seen):
    seen.add(id(layer))
    inner = [child for child in children(layer) if id(child) not in seen]
    used = {child.name for child in inner if automatic(child.name, type(child).__name__) is None}
    for child in inner:
        if id(child) in seen:  # inside one of the others
            continue
        base = automatic(child.name, type(child).__name__)
        name = child.name if base is None else unused(base, used)
        _name(child, f"{prefix}{name}/", names, seen)
    own = [variable for variable in layer.variables if id(variable) not in names]
    count: Counter[str] = Counter()
    for variable in own:
        name = automatic(variable.name, "Variable") or variable.name
        names[id(variable)] = f"{prefix}{name}{f'_{count[name]}' if count[name] else ''}"
        count[name] += 1


def unused(base, used):
    """`base`, or with the first number that makes it a new name, which is noted."""
    name, number = base, 0
    while name in used:
        number += 1
        name = f"{base}_{number}"
    used.add(name)
    return name
