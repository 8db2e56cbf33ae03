"""`moco-tf embed`."""

import json
from pathlib import Path

from moco_tf.commands.flags import share
from moco_tf.commands.starting import check_data, start_tensorflow


def add(commands) -> None:
    """Adds the command to the subparsers."""
    embed = commands.add_parser(
        "embed", help="write the features of images to a file", allow_abbrev=False
    )
    embed.add_argument("folder", metavar="RUN", help="run folder or converted file")
    embed.add_argument("--data", metavar="D", help="images; none: the run's own")
    embed.add_argument("--out", metavar="FILE", required=True, help=".npy, .npz, .parquet or .csv")
    embed.add_argument("--features", choices=["pooled", "projection"], default="pooled")
    embed.add_argument("--split", choices=["train", "test", "all"], default="all")
    embed.add_argument("--projector", metavar="FOLDER", help="files for TensorBoard's projector")
    embed.add_argument(
        "--max-bad-images", type=share, metavar="X", help="share of unreadable files to skip"
    )
    embed.add_argument("--overwrite", action="store_true", help="replace existing files")
    embed.set_defaults(run=_embed)


def _embed(options) -> int:
    from moco_tf.export import embed_files, projector
    from moco_tf.runs.snapshot import images_of, peek

    sources = options.folder, options.data
    embed_files.check_target(Path(options.out), overwrite=options.overwrite, sources=sources)
    if options.projector is not None:
        projector.check_folder(Path(options.projector), overwrite=options.overwrite)
    check_data(images_of(peek(options.folder), options.data, options.folder))
    start_tensorflow()
    from moco_tf.export.embed import embed
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=options.json)
    result = embed(
        options.folder,
        options.out,
        data=options.data,
        features=options.features,
        split=options.split,
        projector_folder=options.projector,
        max_bad_images=options.max_bad_images,
        overwrite=options.overwrite,
        reporter=reporter,
    )
    if options.json:
        print(json.dumps(result))
        return 0
    reporter.line(
        f"wrote {result['out']}: {result['images']} x {result['dimensions']}, "
        f"{result['images_per_second']:.0f} images/s\n{result['protocol']}"
    )
    if result["projector"]:
        reporter.line(
            f"{result['projector_points']} points: tensorboard --logdir {result['projector']}"
        )
    return 0
