"""`moco-tf embed`."""

from moco_tf.api.features import embed
from moco_tf.commands.flags import take_defaults
from moco_tf.commands.parser import Outcome, Parser, share


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    command.add_argument("--data", metavar="D", help="images; none: the run's own")
    command.add_argument(
        "--out", metavar="FILE", required=True, help=".npy, .npz, .parquet or .csv"
    )
    command.add_argument(
        "--features", choices=["pooled", "projection"],
        help="the backbone's output or the head's, not normalised [%(default)s]",
    )  # fmt: skip
    command.add_argument(
        "--split", choices=["train", "test", "all"],
        help="which images; all: the training images first [%(default)s]",
    )  # fmt: skip
    command.add_argument(
        "--projector", dest="projector_folder", metavar="FOLDER",
        help="tensors.tsv, metadata.tsv, sprite.png and projector_config.pbtxt for TensorBoard's "
        "projector, of at most 10,000 images",
    )  # fmt: skip
    command.add_argument(
        "--max-bad-images", type=share, metavar="X", help="share of unreadable files to skip"
    )
    command.add_argument("--overwrite", action="store_true", help="replace existing files")
    take_defaults(command, embed)


def run(folder: str, json: bool, **settings) -> Outcome:
    from moco_tf.training.reporting import Reporter

    result = embed(folder, reporter=Reporter(json_mode=json), **settings)
    text = (
        f"wrote {result['out']}: {result['images']} x {result['dimensions']}, "
        f"{result['images_per_second']:.0f} images/s\n{result['protocol']}"
    )
    if result["projector"]:
        where = f"tensorboard --logdir {result['projector']}"
        text += f"\n{result['projector_points']} points: {where}"
    return result, text, True
