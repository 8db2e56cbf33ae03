"""A compiled function of TensorFlow as StableHLO that `jax.export.deserialize` reads.

The function's variables become arguments, by name, and what it changes becomes results: a program
holds no weights, and its state goes in and comes out. Needs TensorFlow and JAX.
"""

import dataclasses
import json
import lzma
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tensorflow as tf
from jax import export
from jax.extend import mlir

STABLEHLO = "1.0.0"  # what programs are written in; every later version reads it
CALLING_CONVENTION = 9  # of `jax.export`: the oldest that this JAX writes
LOCATION = re.compile(r" loc\((?:[^()]|\([^()]*\))*\)|^#loc.*\n", re.MULTILINE)
UPDATED = re.compile(r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>")


class Program(NamedTuple):
    """What `jax.export.deserialize` reads, and the names of its arguments and results in order."""

    blob: bytes
    arguments: list[str]
    results: list[str]

    def write(self, path: Path, **facts) -> None:
        """Writes `path`.jax.xz, and `path`.json with the names and other facts."""
        names = {"arguments": self.arguments, "results": self.results}
        path.with_suffix(".jax.xz").write_bytes(lzma.compress(self.blob))
        path.with_suffix(".json").write_text(json.dumps(names | facts))


def lower(function, specs: dict[str, tf.TensorSpec], variables: dict[str, tf.Variable]) -> Program:
    """Lowers function(**tensors), which returns a dict of tensors.

    Args:
        specs: of its tensors, of whole shapes.
        variables: all that it reads or changes, by the names to give them.
    """
    compiled = tf.function(
        lambda *tensors: function(**dict(zip(specs, tensors, strict=True))),
        jit_compile=True,
        autograph=False,
    )
    concrete = compiled.get_concrete_function(*specs.values())
    generate = compiled.experimental_get_compiler_ir(*specs.values())
    text = generate(stage="stablehlo", platform_name="CPU")
    names = {id(variable.handle): name for name, variable in variables.items()}
    arguments = [*specs, *(names[id(handle)] for handle in concrete.captured_inputs)]
    results = sorted(concrete.structured_outputs)  # in this order TensorFlow flattens a dict
    types = specs | variables | dict(zip(results, concrete.outputs, strict=True))
    updated = sorted((int(result), int(place)) for place, result in UPDATED.findall(text))
    if [result for result, _ in updated] != [*range(len(results), len(results) + len(updated))]:
        raise SystemExit("TensorFlow no longer puts the changed variables last: lower() must learn")
    results += [arguments[place] for _, place in updated]
    blob = _serialized(_plain(text), *([types[n] for n in each] for each in (arguments, results)))
    return Program(blob, arguments, results)


def _plain(text: str) -> str:
    """The module without what StableHLO has no words for, and without where it comes from."""
    text = LOCATION.sub("", text)
    text = re.sub(r"^module @.*\{$", "module {", text, count=1, flags=re.MULTILINE)
    text = re.sub(r" \{mhlo\.frontend_attributes = \{[^}]*\}\}", "", text)
    return re.sub(r"mhlo\.copy (%\w+) : (\S+)", r"stablehlo.convert \1 : (\2) -> \2", text)


def _serialized(text: str, arguments, results) -> bytes:
    """The module as JAX writes one of its own, in the place of a function of the same types."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_export_calling_convention_version", CALLING_CONVENTION)
    arguments, results = (
        [jax.ShapeDtypeStruct(one.shape, one.dtype.as_numpy_dtype) for one in each]
        for each in (arguments, results)
    )

    def stub(*_):
        return [np.zeros(one.shape, one.dtype) for one in results]

    exported = export.export(
        jax.jit(stub, keep_unused=True),
        platforms=["cuda"],
        disabled_checks=[export.DisabledSafetyCheck.platform()],
    )(*arguments)
    module = mlir.serialize_portable_artifact(text, STABLEHLO)
    return bytes(dataclasses.replace(exported, mlir_module_serialized=module).serialize())
