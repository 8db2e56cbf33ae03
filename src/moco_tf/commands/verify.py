"""`moco-tf verify`."""

from moco_tf.api import starting
from moco_tf.commands.parser import Outcome, Parser


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("files", nargs="*", metavar="TRACE.npz", help="none: those of the package")
    command.add_argument(
        "--devices", type=int, metavar="N", help="GPUs, or virtual CPU devices, to replay on"
    )
    command.add_argument("--float64", action="store_true", help="compare in double precision")


def run(files: list[str], devices: int | None, float64: bool, json: bool) -> Outcome:
    starting.start_tensorflow()
    from moco_tf.verify import print_report, verify_files

    result = verify_files(files, devices=devices, float64=float64)
    if not json:
        print_report(result)
    return result, "", result["ok"]
