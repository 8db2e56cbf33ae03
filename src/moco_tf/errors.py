"""What a user is told: the errors that end a command in one line, and the name that was meant."""

import difflib
import re
from collections.abc import Collection

LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Something the user gave is wrong: the message names the argument, the value and the fix.

    It is one line that a terminal can show, whatever names and values of a file it quotes.
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class DivergedError(InputError):
    """Features are not finite any more: the run that made them has diverged."""


LOST_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same again may well succeed


class WorkerLostError(Exception):
    """Another process of the run is gone; no step can be taken without it."""

    exit_code = LOST_EXIT_CODE


class BackboneChangedError(RuntimeError):
    """The backbone did not stay bit-identical while a linear classifier was trained."""


class DamagedError(ValueError):
    """A file does not hold what was once written to it."""

    def __init__(self, reason: str = ""):
        super().__init__(one_line(reason))


def one_line(text: str) -> str:
    """Returns `text` with escapes for what cannot be printed, and without its middle if long."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def line_of(error: BaseException) -> str:
    """Returns kind and text of an error that nobody expected, as a part of one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


def in_keywords(message: str) -> str:
    """Returns `message` with keywords for the flags in it; commands of a shell stay as they are.

    "Use --batch-size 64 or --no-baselines." becomes "Use batch_size 64 or baselines=False."
    """
    parts = re.split(r"(\bmoco-tf .*?(?:\. |$))", message)
    begins = r"(?<![^\s(])--"
    for place in range(0, len(parts), 2):
        text = re.sub(begins + r"no-([a-z]+)\b", r"\1=False", parts[place])
        names = begins + "([a-z]+(?:-[a-z]+)*)"
        parts[place] = re.sub(names, lambda found: found[1].replace("-", "_"), text)
    return "".join(parts)


# Our name of a setting, and what papers, the official code and other libraries call it.
_CALLED = {
    "learning_rate": "lr base_lr rate eta",
    "lr": "learning_rate base_lr rate eta",
    "batch_size": "bs b batch global_batch_size train_batch_size",
    "epochs": "n_epochs num_epochs max_epochs epoch",
    "max_steps": "steps n_steps num_steps total_steps iterations",
    "queue_size": "K moco_k queue memory_size memory_bank_size num_negatives",
    "knn_k": "k neighbours neighbors",
    "key_momentum": "m moco_m ema ema_decay momentum_encoder target_momentum",
    "momentum_schedule": "moco_m_cos m_cos momentum_cos",
    "mlp_dim": "moco_mlp_dim hidden_dim predictor_dim",
    "temperature": "T t moco_t tau temp softmax_temperature",
    "dim": "moco_dim feature_dim out_dim projection_dim d",
    "head": "mlp projection_head projector_head",
    "encoder": "arch a backbone model network architecture",
    "augmentation": "aug aug_plus augmentations transform transforms",
    "schedule": "cos cosine scheduler lr_schedule lr_scheduler",
    "optimizer": "optim opt",
    "warmup_epochs": "warmup warm_up warmup_steps",
    "freeze_patch_projection": "stop_grad_conv1 freeze_patch_embed",
    "patch_size": "patch",
    "milestones": "lr_steps lr_milestones decay_epochs",
    "weight_decay": "wd l2",
    "momentum": "sgd_momentum",
    "sgd_momentum": "momentum",
    "image_size": "size img_size input_size crop_size resolution",
    "data": "dataset data_dir data_path train_dir",
    "out": "output run_dir save_dir out_dir",
    "run_dir": "out output output_dir out_dir save_dir log_dir logdir checkpoint_dir resume",
    "devices": "gpu gpus n_gpus num_gpus device",
    "workers": "hosts nodes",
    "precision": "fp16 bf16 amp dtype mixed_precision",
    "log_every": "print_freq log_freq log_interval log_every_n_steps",
    "checkpoint_every": "save_freq save_every save_interval",
    "accumulation_steps": "grad_accum accum gradient_accumulation_steps accumulate_grad_batches",
    "recompute": "checkpointing gradient_checkpointing remat",
    "crop_min_area": "scale min_scale crop_scale",
    # of a described augmentation
    "crop": "random_resized_crop resize",
    "min_area": "scale area min_scale",
    "aspect": "ratio aspect_ratio",
    "jitter": "color_jitter colour_jitter color colour",
    "gray": "grayscale greyscale grey random_grayscale",
    "blur": "gaussian_blur",
    "solarize": "solarise solarization",
    "horizontal_flip": "flip hflip random_horizontal_flip",
    "vertical_flip": "vflip random_vertical_flip",
    "quarter_turns": "rotate rotation rot90 turns",
    "probability": "p prob",
}


def near_name(name: str, known: Collection[str]) -> str | None:
    """Returns the name in `known` that `name` was meant for; None if none is like it.

    Args:
        name, known: fields, or flags as they are typed, `--batch-size`.
    """
    plain = {_plain(one): one for one in known}
    for written in (_plain(name), _plain(name).lower()):
        for field, others in _CALLED.items():
            if field in plain and written in (field, *others.split()):
                return plain[field]
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _plain(name: str) -> str:
    return name.strip("-").replace("-", "_")
