"""`moco-tf convert`."""

from pathlib import Path

from moco_tf.api import starting
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.convert.targets import SUFFIXES, check_target


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("source", metavar="SOURCE", help="run folder or file")
    command.add_argument("target", metavar="TARGET", help="file to write")
    command.add_argument("--to", required=True, choices=[*SUFFIXES], help="whose format")
    command.add_argument("--with-head", action="store_true", help="keep fc where it is left out")
    command.add_argument("--image-size", type=int, metavar="X", help="none: 224, small stem 32")
    command.add_argument("--normalization", metavar="X", help="none: imagenet, small stem cifar10")
    command.add_argument("--key", metavar="X", help="of several encoders in SOURCE, that under X")
    command.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")


def run(source: str, target: str, to: str, overwrite: bool, json: bool, **settings) -> Outcome:
    from moco_tf.convert.source import kind_of
    from moco_tf.runs.snapshot import peek

    check_target(Path(target), to, overwrite)
    if kind_of(Path(source)) == "run":
        peek(source)
    starting.start_tensorflow()
    from moco_tf.convert import convert, describe

    result = convert(source, target, to=to, overwrite=overwrite, **settings)
    return result, describe(result), result["equal"]
