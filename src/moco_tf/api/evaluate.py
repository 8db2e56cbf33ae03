"""`moco_tf.knn`, `probe` and `finetune`: how good a run's encoder is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moco_tf.api import starting
from moco_tf.api.run import AnyRun, text_of, texts_of
from moco_tf.config import make_config
from moco_tf.errors import InputError
from moco_tf.evaluate.finetune_config import finetune_recipe
from moco_tf.evaluate.probe_config import ProbeConfig, check_quick, official_probe
from moco_tf.names.data import text_of as name_of
from moco_tf.names.data import text_or_object
from moco_tf.runs.folder import REPORT

if TYPE_CHECKING:
    from moco_tf.training.reporting import Reporter


def knn(
    run: AnyRun,
    *,
    data: Any = None,
    split: Literal["val", "test"] | None = None,
    features: Literal["projection", "pooled"] = "projection",
    k: int = 200,
    temperature: float = 0.1,
    baselines: bool = True,
    max_bad_images: float | None = None,
) -> dict[str, Any]:
    """Returns the kNN accuracy of an encoder on labelled images; nothing is trained.

    Args:
        run: a `Run`, a run folder (its newest checkpoint), or a file made by `moco-tf convert`.
        data: labelled images, as `pretrain` takes them. None: the run's own.
        split: part of the data to judge on. None: val if there is one, or else test.
        features: "projection" (the head's output) or "pooled" (before it).
        k: neighbours that vote.
        temperature: of the votes, exp(similarity / temperature).
        baselines: also evaluate random weights and the plain pixels; kept in the run folder.
        max_bad_images: largest share of unreadable files to leave out. None: the run's own.

    Returns:
        "knn_top1" (percent), "knn_top1_untrained" and "knn_top1_pixels" (None without
        `baselines`), "protocol" and others, as `moco-tf knn --json` prints.

    Raises:
        InputError: no such run, or no labels.
    """
    folder, (text, source) = text_of(run), text_or_object(data)
    images = source if text is None else text
    starting.start_with_images(folder, images)
    from moco_tf.evaluate.knn_run import evaluate_run

    return evaluate_run(
        folder,
        data=images,
        split=split,
        features=features,
        k=k,
        temperature=temperature,
        compare=baselines,
        max_bad_images=max_bad_images,
    )


def probe(
    run: AnyRun,
    *,
    data: Any = None,
    quick: bool = False,
    baselines: bool = True,
    out: str | os.PathLike[str] | None = None,
    report: bool = True,
    reporter: Reporter | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Returns the accuracy of a linear classifier on the frozen features of an encoder.

    It trains by the official protocol, that of MoCo v3 if the encoder is of it, and goes on where
    its folder stopped; `quick=True` fits a ridge classifier in closed form, in seconds.

    Args:
        run: a `Run`, a run folder (its newest checkpoint), or a file made by `moco-tf convert`.
        data: labelled images with a test part: text or a path, or an object as `pretrain` takes
            it, {"train": (images, labels), "test": (images, labels)}. None: the run's own.
        quick: the classifier in closed form.
        baselines: with `quick`, also evaluate random weights and the plain pixels.
        out: folder of the results. None: probe/ or probe-quick/ in the run.
        report: write report.html into the folder of the results, too.
        reporter: see `pretrain`.
        fields: `split`, `seed`, `max_bad_images`; without `quick` also `epochs`, `lr` (one
            rate or several), `lr_scaling`, `schedule`, `milestones`, `batch_size`, `devices`,
            `log_every`, `checkpoint_every`, `preemption_seconds`.

    Returns:
        "top1", "top5", "top1_best" (percent), "protocol" and others, as `moco-tf probe --json`
        prints.

    Raises:
        InputError: anything wrong with the run, the fields, the data or the folder.
        BackboneChangedError: the encoder is not what it was before the first epoch.
        Interrupted: Ctrl-C or SIGTERM; the state is saved, and the same call goes on.
    """
    changes, source = _changes(run, data, out, fields)
    config = make_config(ProbeConfig(run=""), changes)
    if quick:
        check_quick(changes)
    elif not baselines:
        raise InputError(
            "--no-baselines is for --quick; the official protocol has no baselines. Leave it out."
        )
    images = config.data if source is None else source
    pretraining = starting.start_with_images(config.run, images)
    from moco_tf.evaluate import probe, ridge_probe

    if quick:
        result = ridge_probe.ridge_probe(config, source, compare=baselines, reporter=reporter)
    else:
        config = make_config(official_probe(pretraining), changes)
        result = probe.probe(config, source, reporter=reporter)
    _report(report, config.out(quick), reporter)
    return result


def finetune(
    run: AnyRun,
    *,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    report: bool = True,
    reporter: Reporter | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Trains encoder and classifier together on labels; returns their accuracy.

    It goes on where its folder stopped. The tuned encoder is encoder.safetensors in that folder,
    which `load_encoder(..., head=True)` takes.

    Args:
        run: a `Run`, a run folder (its newest checkpoint), or a file made by `moco-tf convert`.
        data: as `probe` takes it.
        out: folder of the results. None: finetune[-scratch][-FRACTION]/ in the run.
        report: write report.html into the folder of the results, too.
        reporter: see `pretrain`.
        fields: `recipe` ("plain" or "deit"), `split`, `label_fraction`, `from_scratch`, `epochs`,
            `lr`, `head_lr`, `batch_size`, `weight_decay` and the other flags of `moco-tf finetune`.

    Returns:
        "top1", "top5", "top1_best" (percent), "protocol", "state_sha256" and others, as
        `moco-tf finetune --json` prints.

    Raises:
        InputError: anything wrong with the run, the fields, the data or the folder.
        Interrupted: Ctrl-C or SIGTERM; the state is saved, and the same call goes on.
    """
    changes, source = _changes(run, data, out, fields)
    config = make_config(finetune_recipe(changes.get("recipe", "plain")), changes)
    starting.start_with_images(config.run, config.data if source is None else source)
    from moco_tf.evaluate import finetune

    result = finetune.finetune(config, source, reporter=reporter)
    _report(report, config.out, reporter)
    return result


def _report(wanted: bool, folder: Path, reporter: Reporter | None) -> None:
    """Writes the report of results, where it is wanted."""
    from moco_tf.report.after import report_results
    from moco_tf.training.reporting import Reporter

    if wanted:
        say = (reporter or Reporter()).line
        if report_results(folder, say):
            say(f"to look at: {folder / REPORT}")


def _changes(
    run: AnyRun, data: Any, out: str | os.PathLike[str] | None, fields: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """The fields of a config that differ from its defaults, and the images if Python has them."""
    text, source = text_or_object(data)
    text = text if source is None else name_of(source)
    return texts_of(fields, run_dir=out, data=text) | {"run": text_of(run)}, source
