"""PyTorch's side of a test, in a process of its own: no process holds TensorFlow as well."""

from typing import Any


def call(name: str, *arguments: Any, **options: Any) -> Any:
    """Returns what the function of that name in torch_files.py does; to be called over there."""
    from support import torch_files

    return getattr(torch_files, name)(*arguments, **options)
