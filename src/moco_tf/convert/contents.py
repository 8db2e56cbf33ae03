"""The encoders in what a file of PyTorch's world holds, found by a ResNet's names.

What wraps an encoder (nested dicts, Lightning, torch.compile, a method's own modules) differs from
project to project; the names within a ResNet do not. So hardly a wrapper is named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moco_tf.convert.vit_names import timm_names, vit_paths
from moco_tf.errors import InputError

Arrays = dict[str, np.ndarray]
LONGEST_NAME = 300  # characters; a file that repeats a long one a million times is not spelt out
_SHOWN = 4  # names in a message
_FIRST_KERNEL = re.compile(r"(?:(.*)\.)?(?:conv1|0)\.weight")
_FIRST_BLOCK = re.compile(r"(?:(.*)\.)?(?:layer1|\d+)\.0\.conv1\.weight")
_NUMBERED_STAGE = re.compile(r"(\d{1,4})\.0\.conv1\.weight")
_RESNET = re.compile(r"(conv|bn|layer)\d*\.")
_HEADS = ({"fc.weight", "fc.bias"}, {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"})
# What an encoder is called that follows another as a moving average, as encoder_k does encoder_q.
_FOLLOWS = {"k", "key", "ema", "momentum", "teacher", "target", "averaged", "avg", "swa"}
_QUERY = re.compile(r"(|.*\.)encoder_q(\.net)?")
_OUTERMOST = "the outermost level"


@dataclass(frozen=True)
class Parts:
    """A file taken apart; encoders by torchvision's names, in the order of the file."""

    query: Arrays
    key: Arrays
    queue: Arrays  # "queue" [C, K] and "queue_ptr" [1], or nothing
    official: bool  # whether the query encoder was called encoder_q
    notes: tuple[str, ...] = ()
    v3: bool = False  # whether it was called base_encoder, as MoCo v3 does


def take_apart(content: Mapping[str, Any], name: str, key: str | None = None) -> Parts:
    """Returns the encoder in `content`; with MoCo's encoder_q its key encoder and its queue.

    Of several encoders the first is taken that is no moving average of another: encoder_q, not
    encoder_k; student, not teacher. What is no part of it is left out. The notes tell both.

    Args:
        content: names to arrays, nested in any way.
        name: what an error calls the file.
        key: what the encoder lies under, where there are several: "state_dict_ema".

    Raises:
        InputError: if there is no array, or no encoder under that key.
    """
    arrays = named_arrays(content)
    if not arrays:
        raise InputError(f"{name} holds no state dict: no tensor in it has a name.")
    paths = encoder_paths(arrays)
    if vits := vit_paths(arrays):
        return _vit(arrays, vits, key, name)
    if not paths:  # what it lacks is told where the architecture is
        return Parts(arrays, {}, {}, False)
    path = _choose(paths, key, name)
    others = [other for other in paths if other != path]
    names = _without_unknown_head(_torchvision_names(_below(arrays, path)))
    query = {name: arrays[full] for full, name in names.items()}
    keys, queue = {}, {}
    official = _QUERY.fullmatch(path) if any(n.startswith("fc.") for n in query) else None
    if official:
        parent = official[1]
        beside = _torchvision_names(_below(arrays, f"{parent}encoder_k{official[2] or ''}"))
        keys = {name: arrays[full] for full, name in beside.items()}
        queue = {n: arrays[parent + n] for n in ("queue", "queue_ptr") if parent + n in arrays}
        names |= dict.fromkeys(beside, "") | {parent + n: n for n in queue}
    elsewhere = tuple(f"{other}." for other in others if other)
    left_out = [n for n in arrays if n not in names and not n.startswith(elsewhere)]
    notes = []
    if others:
        also = _listed([other or _OUTERMOST for other in others])
        notes.append(f"took the encoder of {path or _OUTERMOST}; also there: {also} (--key)")
    if left_out:
        notes.append(f"left out what is not part of the encoder: {_listed(left_out)}")
    v3 = path.rpartition(".")[2] == "base_encoder"
    return Parts(query, keys, queue, official is not None, tuple(notes), v3)


def _vit(arrays: Arrays, paths: Mapping[str, str], key: str | None, name: str) -> Parts:
    """The ViT that is no moving average of another."""
    path = _choose(list(paths), key, name)
    below = {short: arrays[full] for full, short in _below(arrays, path).items()}
    own = timm_names(below, paths[path])
    others = [f"{other or _OUTERMOST}" for other in paths if other != path]
    left_out = [one for one in below if one not in own]
    notes = []
    if others:
        also = _listed(others)
        notes.append(f"took the encoder of {path or _OUTERMOST}; also there: {also} (--key)")
    if left_out:
        notes.append(f"left out what is not part of the encoder: {_listed(left_out)}")
    query = {timm: below[short] for short, timm in own.items()}
    return Parts(query, {}, {}, False, tuple(notes))


def named_arrays(content: Mapping[str, Any]) -> Arrays:
    """Returns the arrays in nested dicts by their dotted names, without transparent wrappers.

    A dict that lies in several places counts once.
    """
    found: Arrays = {}
    seen = set()

    def walk(values: Mapping[str, Any], path: str) -> None:
        seen.add(id(values))
        for name, value in values.items():
            full = f"{path}.{name}"
            if not isinstance(name, str) or len(full) > LONGEST_NAME:
                continue
            if isinstance(value, dict) and id(value) not in seen:
                walk(value, full)
            elif isinstance(value, np.ndarray):
                short = _without_wrappers(full)
                found[full[1:] if short in found else short] = value

    walk(content, "")
    return found


def encoder_paths(names: Iterable[str]) -> list[str]:
    """Returns the dotted paths below which a ResNet's names lie, in their order."""
    names = list(names)
    blocks = {match[1] for match in map(_FIRST_BLOCK.fullmatch, names) if match}
    kernels = [match[1] for match in map(_FIRST_KERNEL.fullmatch, names) if match]
    return [path or "" for path in dict.fromkeys(kernels) if path in blocks]


def _without_wrappers(name: str) -> str:
    """Without "module" (DataParallel) and what begins with "_": _orig_mod, _fsdp_wrapped_module."""
    kept = (p for p in name.split(".") if p and p != "module" and not p.startswith("_"))
    return ".".join(kept)


def _choose(paths: Sequence[str], key: str | None, name: str) -> str:
    wanted = _without_wrappers(key or "")
    fitting = [path for path in paths if not key or f".{wanted}." in f".{path}."]
    if not fitting:
        there = _listed([path or _OUTERMOST for path in paths])
        raise InputError(f"{name}: no encoder lies under key={key}; there are: {there}.")
    return min(fitting, key=lambda path: not _FOLLOWS.isdisjoint(re.split(r"[._]", path)))


def _below(arrays: Arrays, path: str) -> dict[str, str]:
    """The full names below `path`, to what follows it."""
    prefix = f"{path}." if path else ""
    return {name: name.removeprefix(prefix) for name in arrays if name.startswith(prefix)}


def _torchvision_names(names: Mapping[str, str]) -> dict[str, str]:
    """`names`, whose values are a ResNet's by some scheme, with torchvision's as values.

    Known are the numbers of `nn.Sequential(*resnet.children())`, whatever it has of pooling and a
    linear layer, and "shortcut" for "downsample".
    """
    stages = sorted({int(m[1]) for m in map(_NUMBERED_STAGE.fullmatch, names.values()) if m})
    modules = {str(n): f"layer{i}" for i, n in enumerate(stages, 1)}
    if stages:
        modules |= {"0": "conv1", "1": "bn1"}
        first = {name.partition(".")[0] for name in names.values()}
        behind = [n for n in first if n.isdecimal() and int(n) > stages[-1]]
        modules |= {behind[0]: "fc"} if len(behind) == 1 else {}
    named = {}
    for full, name in names.items():
        module, dot, rest = name.replace(".shortcut.", ".downsample.").partition(".")
        named[full] = modules.get(module, module) + dot + rest
    return named


def _without_unknown_head(names: Mapping[str, str]) -> dict[str, str]:
    """Those of the trunk, and of `fc` if it is a linear layer or two."""
    head = {name for name in names.values() if name.startswith("fc.")}
    known = head if any(head <= one for one in _HEADS) else set()
    return {full: name for full, name in names.items() if _RESNET.match(name) or name in known}


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
