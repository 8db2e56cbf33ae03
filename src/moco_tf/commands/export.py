"""`moco-tf export`."""

from moco_tf.api.features import export
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.exporting.targets import FORMATS, describe


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


def run(folder: str, out: str, json: bool, **settings) -> Outcome:
    result = export(folder, out, format=settings.pop("to"), **settings)
    return result, describe(result), result["equal"]
