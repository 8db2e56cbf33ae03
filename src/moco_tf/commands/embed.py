"""`moco-tf embed`."""

from pathlib import Path

from moco_tf.commands.parser import Outcome, Parser, share
from moco_tf.commands.starting import start_with_images


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    command.add_argument("--data", metavar="D", help="images; none: the run's own")
    command.add_argument(
        "--out", metavar="FILE", required=True, help=".npy, .npz, .parquet or .csv"
    )
    command.add_argument(
        "--features", choices=["pooled", "projection"], default="pooled", help="[%(default)s]"
    )
    command.add_argument(
        "--split", choices=["train", "test", "all"], default="all", help="[%(default)s]"
    )
    command.add_argument(
        "--projector", dest="projector_folder", metavar="FOLDER",
        help="files for TensorBoard's projector",
    )  # fmt: skip
    command.add_argument(
        "--max-bad-images", type=share, metavar="X", help="share of unreadable files to skip"
    )
    command.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(
    folder: str, out: str, data: str | None, projector_folder: str | None, overwrite: bool,
    json: bool, **settings,
) -> Outcome:  # fmt: skip
    from moco_tf.exporting import embed_files, projector

    embed_files.check_target(Path(out), overwrite=overwrite, sources=(folder, data))
    if projector_folder is not None:
        projector.check_folder(Path(projector_folder), overwrite=overwrite)
    start_with_images(folder, data)
    from moco_tf.exporting.embed import embed
    from moco_tf.training.reporting import Reporter

    settings |= {"data": data, "projector_folder": projector_folder, "overwrite": overwrite}
    result = embed(folder, out, reporter=Reporter(json_mode=json), **settings)
    text = (
        f"wrote {result['out']}: {result['images']} x {result['dimensions']}, "
        f"{result['images_per_second']:.0f} images/s\n{result['protocol']}"
    )
    if result["projector"]:
        where = f"tensorboard --logdir {result['projector']}"
        text += f"\n{result['projector_points']} points: {where}"
    return result, text, True
