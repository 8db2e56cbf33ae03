"""`moco-tf check`."""

from moco_tf.commands.parser import Outcome, Parser
from moco_tf.runs.check import check_run, report


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder, results in it, or encoder file")


def run(folder: str, json: bool) -> Outcome:
    result = check_run(folder)
    return result, "\n".join(report(result)), result["whole"]
