"""An encoder from PyTorch's world, or a released one, as a .keras file: convert, then export."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from moco_tf import convert
from moco_tf.exporting.command import export
from moco_tf.exporting.targets import check_out, describe


def convert_to_keras(
    source: Path | str, target: Path | str, *, with_head: bool, overwrite: bool, **settings: Any
) -> tuple[dict[str, Any], str]:
    """Writes the encoder in `source` to the .keras file `target`; returns what came of it.

    Both steps compare features, and the file gets its name only if both find them equal.

    Args:
        settings: those of `convert`.

    Returns:
        (what `convert` returns, with "exported", what `export` returns; lines that tell it).

    Raises:
        InputError: as `convert` and `export` do.
    """
    check_out(Path(target), "keras", overwrite)
    with tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "converted.safetensors"
        read = convert.convert(source, between, to="moco-tf", with_head=with_head, **settings)
        result = read | {"target": str(target), "to": "keras", "exported": None}
        lines = [line for line in convert.describe(read).splitlines() if str(between) not in line]
        if read["equal"]:
            exported = export(
                between,
                target,
                to="keras",
                with_head=with_head,
                origin=str(source),
                overwrite=overwrite,
            )
            result |= {"exported": exported, "equal": exported["equal"]}
            lines += describe(exported).splitlines()
    return result, "\n".join(lines)
