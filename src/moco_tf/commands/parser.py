"""A parser with its options in named groups, and errors of one line that suggest a name."""

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from moco_tf.errors import near_name, one_line

GROUPS = {  # of the help -> their options, of all commands
    "data": "data split image_size augmentation crop_min_area color_strength augment_on "
    "normalization max_bad_images max_small_images label_fraction",
    "network": "encoder pretrained width stem patch_size freeze_patch_projection vit_width "
    "vit_depth head mlp_dim dim group_size group_layout running_statistics "
    "init from_scratch key with_head with_preprocessing",
    "method": "method queue_size key_momentum momentum_schedule temperature symmetric",
    "optimizer": "recipe optimizer batch_size epochs learning_rate lr head_lr lr_scaling schedule "
    "milestones lr_drop schedule_unit first_epoch warmup_epochs warmup_lr min_lr layer_decay "
    "sgd_momentum momentum weight_decay",
    "augmentation and regularisation": "interpolation rand_augment random_erasing mixup cutmix "
    "label_smoothing drop_path",
    "devices": "devices accumulation_steps recompute precision float64 xla workers worker_index "
    "worker_timeout",
    "run folder": "config run_dir extend max_steps seed log_every checkpoint_every "
    "preemption_seconds track",
    "evaluation": "quick features k baselines knn_every knn_k knn_max_bank knn_max_queries "
    "knn_temperature knn_features duplicates",
    "measurement": "steps rounds",
    "output": "out to format projector short_side quality data_licence overwrite diff report json",
}
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names.split()}


Outcome = tuple[dict[str, Any], str, bool]  # of a command: its JSON, its text, whether all is well


def fail(message: str) -> int:
    print(f"moco-tf: error: {one_line(message)}", file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """Groups its options by `GROUPS`, and says what is wrong with the arguments in one line."""

    words: Sequence[str] = ()  # of the command line, as far as they tell the recipe

    def __init__(self, **options):
        self.groups: dict[str, Any] = {}
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")  # -1e-3 is a value, too
        self.groups = {title: self.add_argument_group(title) for title in GROUPS}

    def add_argument(self, *flags: Any, group: str = "", **options: Any) -> argparse.Action:
        name = flags[-1].removeprefix("--").removeprefix("no-").replace("-", "_")
        named = self.groups.get(group or _GROUP_OF.get(name, "")) if flags[0][0] == "-" else None
        add = named.add_argument if named else super().add_argument
        return add(*flags, **options)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which takes a closed pipe for success where the help is long."""
        if message:
            (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        words = [w.rstrip(":,.").partition("=")[0] for w in message.split() if w.startswith("-")]
        self._exit(message, next((w for w in words if w not in known), ""), known)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = "/".join(action.option_strings) or action.metavar
            known = ", ".join(map(repr, action.choices))
            message = f"argument {name}: invalid choice: {value!r} (choose from {known})"
            self._exit(message, value, action.choices)

    def _exit(self, message: str, word: str, known: Any) -> NoReturn:
        near = near_name(word, known)
        hint = f"Did you mean {near}?" if near else f"See {self.prog} --help."
        self.exit(fail(f"{message.rstrip('.')}. {hint}"))


def share(text: str) -> float:
    """Parses a flag that is a share, 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be from 0 to 1; received {text}")
