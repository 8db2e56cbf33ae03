"""Momentum Contrast for TensorFlow. Importing this imports no TensorFlow: see docs/python.md."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moco_tf.api.evaluate import finetune, knn, probe
    from moco_tf.api.features import embed, export
    from moco_tf.api.pretrain import pretrain
    from moco_tf.api.run import Run, load_run
    from moco_tf.config import Config
    from moco_tf.exporting.plain import load_encoder
    from moco_tf.recipes import RECIPES

__version__ = "0.1.0"
__all__ = [
    "RECIPES",
    "Config",
    "Run",
    "__version__",
    "embed",
    "export",
    "finetune",
    "knn",
    "load_encoder",
    "load_run",
    "pretrain",
    "probe",
]
_MODULES = {  # that define the names, imported when one of them is first asked for
    "api.evaluate": ("finetune", "knn", "probe"),
    "api.features": ("embed", "export"),
    "api.pretrain": ("pretrain",),
    "api.run": ("Run", "load_run"),
    "config": ("Config",),
    "exporting.plain": ("load_encoder",),
    "recipes": ("RECIPES",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"moco_tf.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
