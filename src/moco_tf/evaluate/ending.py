"""What is said when a run has ended: its results, where everything lies, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from moco_tf.data.sources import Images
from moco_tf.evaluate.label_free import PICTURES, held_out
from moco_tf.runs.folder import METRICS, REPORT, SUMMARY, TENSORBOARD, checkpoint_folder
from moco_tf.runs.working_folder import local_folder


def ending_lines(
    summary: Mapping[str, Any],
    run_dir: str,
    train: Images,
    test: Images | None,
    report: bool = False,
) -> list[str]:
    """Returns the last lines of a run that `summary` is of.

    Args:
        run_dir: as it was given; it may be on another file system.
        train, test: its images.
        report: whether there is one, to be looked at.
    """
    lines = [f"done: step {summary['step']}, {summary['seconds']:.0f} s"]
    found = {
        "trained": summary["knn_top1"],
        "untrained": summary["knn_top1_untrained"],
        "raw pixels": summary["knn_top1_pixels"],
    }
    shown = [f"{what} {top1:.1f}%" for what, top1 in found.items() if top1 is not None]
    if shown:
        lines.append("kNN top-1: " + "   ".join(shown))
    lines += _label_free_table(summary, train, test)
    lines.append(
        f"all of it is in {run_dir}: {f'{REPORT} to look at, ' if report else ''}"
        f"{checkpoint_folder('').name}/, {METRICS}, {SUMMARY}, and "
        f"curves in {TENSORBOARD}/"
    )
    folder = local_folder(run_dir)
    if folder is None:
        return [*lines, "copy it to this machine for the other commands"]
    labelled_test = test is not None and test.labels is not None
    labelled = train.labels is not None and not (test and test.why_unlabelled)
    commands = next_commands(str(folder), labelled, labelled_test)
    return [*lines, "next:", *(f"  {line}" for line in commands)]


def _label_free_table(summary: Mapping[str, Any], train: Images, test: Images | None) -> list[str]:
    """What the features tell without labels; nothing where they were not looked at."""
    if summary["effective_rank"] is None:
        return []
    images = held_out(train, test)
    count = min(images.count, PICTURES)
    kind = "of the test images" if images is test else "that it was trained on"
    table = [f"  {'':<27}untrained    trained   better"]
    for name, (words, form, better) in {
        "view_retrieval": ("two views find each other", "{:.1f}%", "higher ({:.1f}% by chance)"),
        "alignment": ("alignment", "{:.3f}", "lower, beside a low uniformity"),
        "uniformity": ("uniformity", "{:.3f}", "lower (0 to -4)"),
        "effective_rank": ("effective rank", "{:.1f}", "higher"),
    }.items():
        values = summary[f"{name}_untrained"], summary[name]
        shown = ["-" if value is None else form.format(value) for value in values]
        table.append(f"  {words:<27}{shown[0]:>9}  {shown[1]:>9}   {better.format(100 / count)}")
    return [f"without labels, of two views of {count} pictures {kind}:", *table]


def next_commands(run_dir: str, labelled: bool, labelled_test: bool) -> list[str]:
    """Returns three commands that take the run further, as a shell reads them.

    Args:
        labelled: whether the images are as kNN needs them.
        labelled_test: whether there are test images with labels as well, which a probe needs.
    """
    run = shlex.quote(run_dir if not run_dir.startswith("-") else f"./{run_dir}")
    embed = f"moco-tf embed {run} --out features.npz"
    export = f"moco-tf export {run} --format savedmodel --out encoder"
    if not labelled:
        return [f"tensorboard --logdir {run}/{TENSORBOARD}", embed, export]
    judged = f"moco-tf probe {run} --quick" if labelled_test else export
    return [f"moco-tf knn {run} --features pooled", judged, embed]
