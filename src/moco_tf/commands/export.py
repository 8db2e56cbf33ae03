"""`moco-tf export`."""

from pathlib import Path

from moco_tf.commands.parser import Outcome, Parser
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.exporting.targets import FORMATS, check_format, check_out


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder, converted or fine-tuned file")
    command.add_argument("--format", dest="to", required=True, choices=FORMATS, help="to write")
    command.add_argument("--out", required=True, metavar="PATH", help="file or folder to write")
    command.add_argument("--with-head", action="store_true", help="end in the head's output")
    command.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 pixels, not normalised ones"
    )
    command.add_argument(
        "--data", metavar="D", help="images to compare on; none: the run's own, or shapes"
    )
    command.add_argument("--data-licence", metavar="TEXT", help="for the model card")
    command.add_argument("--overwrite", action="store_true", help="replace an existing PATH")


def run(
    folder: str, out: str, to: str, data: str | None, overwrite: bool, json: bool, **settings
) -> Outcome:
    from moco_tf.runs.snapshot import peek

    check_format(to)
    check_out(Path(out), to, overwrite)
    peek(folder)
    check_data(data)
    start_tensorflow()
    from moco_tf.exporting.command import describe, export

    result = export(folder, out, to=to, data=data, overwrite=overwrite, **settings)
    return result, describe(result), result["equal"]
