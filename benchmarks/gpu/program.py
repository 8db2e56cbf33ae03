"""What `export.py` wrote, under JAX: programs to call, and the state they begin with."""

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)  # the pointer into the queue is int64


def load(folder: Path, name: str) -> tuple[Callable, dict]:
    """Returns (a function of a dict of arrays that returns a dict of arrays, the facts)."""
    facts = json.loads(_read(folder / f"{name}.json"))
    packed = _read(folder / f"{name}.jax.xz")
    try:
        from jax import export

        exported = export.deserialize(bytearray(lzma.decompress(packed)))
    except (ImportError, ValueError, lzma.LZMAError) as error:
        raise SystemExit(f"JAX {jax.__version__} cannot read {name}.jax.xz: {error}") from None

    def call(values):
        results = exported.call(*(values[argument] for argument in facts["arguments"]))
        return dict(zip(facts["results"], results, strict=True))

    return call, facts


def stepping(call: Callable, state: dict) -> Callable:
    """Returns step(state, others) -> (state, scalars), of a program that changes its state."""

    def step(state, others):
        results = call(state | others)
        scalars = {name: value for name, value in results.items() if name not in names}
        return {name: results.get(name, value) for name, value in state.items()}, scalars

    names = frozenset(state)
    return step


def drawn(start: dict[str, dict], seed: int) -> dict[str, np.ndarray]:
    """The first state: drawn as our networks' are, not the same numbers."""
    state: dict[str, np.ndarray] = {}
    for number, (name, kind) in enumerate(start.items()):
        rng, shape = np.random.default_rng([seed, number]), kind["shape"]
        if "fill" in kind:
            value = np.full(shape, kind["fill"])
        elif "same_as" in kind:
            value = state[kind["same_as"]].copy()
        elif "uniform" in kind:
            value = rng.uniform(-kind["uniform"], kind["uniform"], shape)
        else:
            value = rng.normal(0, kind.get("normal", 1), shape)
        if "unit_rows" in kind:
            value /= np.linalg.norm(value, axis=1, keepdims=True)
        state[name] = value.astype(kind["dtype"])
    return state


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}. See export.py.") from None
