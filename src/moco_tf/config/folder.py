"""What the configs of all commands have in common: a folder that may be continued, and numbers."""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

MOST = 2**31 - 1  # of any whole number in a config
_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 200, 200, 2

# A run may be resumed with other values of these fields. They change where or how long it runs, not
# what it computes (except for rounding).
RUNTIME_FIELDS = frozenset(
    {
        "run_dir",
        "devices",
        "worker_timeout",
        "accumulation_steps",
        "recompute",
        "xla",
        "max_steps",
        "log_every",
        "checkpoint_every",
        "preemption_seconds",
        "knn_every",
        "track",
        "max_bad_images",
        "max_small_images",
        "data_path",
    }
)


class FolderConfig(BaseModel):
    """A config that a folder of results is kept for, and may be continued with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    runtime_fields: ClassVar[frozenset[str]] = RUNTIME_FIELDS
    growing_fields: ClassVar[frozenset[str]] = frozenset()  # may be more than in the folder
    recorded_fields: ClassVar[frozenset[str]] = frozenset()
    folder_flag: ClassVar[str] = "--run-dir"  # the option that names the folder

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, values: Any) -> Any:
        """No field is counted in more than 32 bits."""
        for name, value in values.items() if isinstance(values, dict) else ():
            several = value if isinstance(value, (list, tuple)) else (value,)
            if any(isinstance(one, int) and abs(one) > MOST for one in several):
                raise ValueError(
                    f"{name} must be at most {MOST}; received {name}={short_repr(value)}."
                )
        return values


AnyConfig = TypeVar("AnyConfig", bound=FolderConfig)


def short_repr(value: Any) -> str:
    """The `repr` of a value, shortened: what a file holds may be endless, or too long a number."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to be shown"
