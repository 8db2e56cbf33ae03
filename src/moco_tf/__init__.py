"""Momentum Contrast for TensorFlow. Importing this imports no TensorFlow: see docs/python.md."""

from functools import cache, wraps
from importlib import import_module
from inspect import isfunction
from typing import TYPE_CHECKING, Any

from moco_tf.errors import InputError, in_keywords

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
            found = getattr(import_module(f"moco_tf.{module}"), name)
            return _for_python(found) if isfunction(found) else found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _for_python(function: Any) -> Any:
    """The function, whose errors name keywords in place of the command line's flags."""

    @wraps(function)
    def called(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except InputError as error:
            error.args = (in_keywords(str(error)),)
            raise

    called.__module__ = __name__  # where pickle finds it
    return called


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
