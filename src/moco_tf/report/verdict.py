"""Three sentences on a run: did it learn, is anything off, what to try. Imports no TensorFlow."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from moco_tf.config import Config
from moco_tf.report.read import Found
from moco_tf.training.health import dips, health_messages, health_settings

CLEAR = 3.0  # points of kNN top-1 above the untrained encoder from which on a run has learned
MUCH_WAITING = 0.3  # of the time
RISING = 1.0  # points between the last two evaluations from which on kNN still rises


@dataclass(frozen=True)
class Verdict:
    """What there is to say, a sentence each; `learned` is None where nothing was measured."""

    learned: bool | None
    result: str
    health: str
    advice: str

    @property
    def sentences(self) -> tuple[str, str, str]:
        """All three."""
        return self.result, self.health, self.advice


def verdict_of(found: Found) -> Verdict:
    """Returns the verdict on a run, or on the results of a probe or a fine-tuning."""
    if found.config is None:
        return _of_classifier(found)
    last = {name: value for row in found.evaluated for name, value in row.items()}
    first = found.evaluated[0] if found.evaluated and not found.evaluated[0]["step"] else {}
    trained = len(found.evaluated) > 1 or (found.evaluated and not first)
    learned, result = _learned(last if trained else {}, first)
    config, off = found.config, _off(found, found.config)
    return Verdict(
        learned, result, off or "Nothing is off in its numbers.", _next(found, config, learned)
    )


def _learned(last: dict[str, Any], first: dict[str, Any]) -> tuple[bool | None, str]:
    names = ("knn_top1", "view_retrieval")
    name = next((name for name in names if last.get(name) is not None), None)
    if name is None:
        unknown = "Whether it has learned is not known: the trained encoder was not evaluated yet."
        return None, unknown
    if name == "knn_top1":
        return _by_labels(last[name], first.get(name), first.get(f"{name}_pixels"))
    now, before = last[name], first.get(name)
    ranks = first.get("effective_rank"), last.get("effective_rank")
    rank = (
        "" if None in ranks else f", and its effective rank is {ranks[1]:.1f}, was {ranks[0]:.1f}"
    )
    if before is None:
        return None, f"Two views of a picture find each other in {now:.1f} % of the cases{rank}."
    learned = now > before
    word = "It has learned" if learned else "It has not learned"
    return learned, (
        f"{word}, as far as can be told without labels: two views of a picture find each other in "
        f"{now:.1f} % of the cases, with the untrained encoder in {before:.1f} %{rank}."
    )


def _by_labels(now: float, before: float | None, pixels: float | None) -> tuple[bool | None, str]:
    if before is None:
        return None, f"kNN top-1 is {now:.1f} %; that of the untrained encoder is not known."
    beside = f"kNN top-1 is {now:.1f} %, untrained {before:.1f} %"
    beside += "" if pixels is None else f", of the raw pixels {pixels:.1f} %"
    if now < before + CLEAR:
        return False, f"It has not learned: {beside}."
    if pixels is not None and now <= pixels:
        return True, f"It has learned, but not yet more than the raw pixels tell: {beside}."
    return True, f"It has learned: {beside}."


def _off(found: Found, config: Config) -> str:
    """What is not as it should be; nothing if all is well."""
    said = []
    judged = ("loss", "feature_std", "top1")
    if any(row["loss"] is None for row in found.logged):
        said.append("The loss was not a number: the run has diverged.")
    elif found.logged and all(found.logged[-1].get(name) is not None for name in judged):
        settings = health_settings(config)
        messages = health_messages(found.logged[-1], step=found.step, **settings)
        said += [message.removeprefix("health: ") for message in messages]
        said += _dips(found, settings)
    waits = [row["data_wait"] for row in found.logged if row.get("data_wait") is not None]
    if waits and (wait := sum(waits) / len(waits)) > MUCH_WAITING:
        said.append(f"Training waited for images in {100 * wait:.0f} % of the time.")
    if left_out := sum((found.summary.get("left_out") or {}).values()):
        said.append(f"{left_out} files are not images and were left out.")
    return " ".join(f"{one[0].upper()}{one[1:]}" for one in said)


def _dips(found: Found, settings: dict[str, Any]) -> list[str]:
    """A sentence, where the accuracies of a ViT dip."""
    course = [math.nan if row["top1"] is None else row["top1"] for row in found.logged]
    places = dips(course, settings["queue_size"] + 1) if settings.get("steadier") else []
    if not places:
        return []
    times = "once" if len(places) == 1 else f"{len(places)} times"
    return [
        f"the in-batch accuracy dipped {times}, first at step {found.logged[places[0]]['step']}: "
        f"the training was unstable. Try {settings['steadier']}."
    ]


def _next(found: Found, config: Config, learned: bool | None) -> str:
    run, total = shlex.quote(str(found.path)), f"--epochs {2 * config.epochs}"
    if not found.summary or found.summary.get("step", 0) < found.step:
        return f"Next: let it come to its end: moco-tf pretrain --run-dir {run}."
    if learned is False:
        return (
            f"Next: train longer ({total}), or with another --learning-rate; the views in its "
            f"report tell whether the augmentation suits the pictures."
        )
    values = [row["knn_top1"] for row in found.evaluated if row.get("knn_top1") is not None]
    if len(values) > 2 and values[-1] > values[-2] + RISING:
        extend = " --extend" if config.schedule == "cosine" else ""
        return (
            f"Next: it still got better at the end, so train longer: moco-tf pretrain --run-dir "
            f"{run} {total}{extend}."
        )
    if learned is None or not values:
        embed = f"moco-tf embed {run} --out features.npz"
        return f"Next: look at the neighbours in its report, and take the features: {embed}."
    return f"Next: judge it with a classifier: moco-tf probe {run} --quick."


def _of_classifier(found: Found) -> Verdict:
    summary = found.summary
    kind = "fine-tuning" if "from_scratch" in summary or "from_scratch" in found.fields else "probe"
    top1 = summary.get("top1")
    if top1 is None:
        return Verdict(
            None,
            f"This {kind} has no result yet.",
            "Nothing is known of its health.",
            "Next: let it come to its end by the command that began it.",
        )
    chance = 100 / max(summary.get("classes") or 1, 1)
    beside = [
        f"{what} {summary[f'top1_{key}']:.1f} %"
        for key, what in (("untrained", "untrained"), ("pixels", "of the raw pixels"))
        if summary.get(f"top1_{key}") is not None
    ]
    shown = ", ".join([f"{top1:.1f} %", *beside])
    result = f"The {kind} reaches top-1 {shown}; chance is {chance:.1f} %."
    best = summary.get("top1_best")
    fell = best is not None and best > top1 + RISING
    health = (
        f"Its best epoch had {best:.1f} %: it got worse towards the end."
        if fell
        else "Nothing is off in its numbers."
    )
    advice = " ".join(summary.get("advice") or ["compare it with the classifier of another run."])
    return Verdict(None, result, health, f"Next: {advice}")
