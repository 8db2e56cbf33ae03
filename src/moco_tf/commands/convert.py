"""`moco-tf convert`."""

from pathlib import Path

from moco_tf.api import starting
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.convert.targets import KERAS, SUFFIXES, check_target, format_for


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument(
        "source", metavar="SOURCE", help="run folder, file, or name of a released one"
    )
    command.add_argument("target", metavar="TARGET", help="file to write")
    command.add_argument(
        "--to",
        choices=[*SUFFIXES],
        help="whose format; none: moco-tf for .safetensors, keras for .keras, detectron2 for .pkl",
    )
    command.add_argument("--with-head", action="store_true", help="keep fc where it is left out")
    command.add_argument("--image-size", type=int, metavar="X", help="none: 224, small stem 32")
    command.add_argument("--normalization", metavar="X", help="none: imagenet, small stem cifar10")
    command.add_argument("--key", metavar="X", help="of several encoders in SOURCE, that under X")
    command.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")


def run(
    source: str, target: str, to: str | None, overwrite: bool, json: bool, **settings
) -> Outcome:
    from moco_tf.convert.released import is_released
    from moco_tf.convert.source import kind_of
    from moco_tf.runs.snapshot import peek

    to = to or format_for(Path(target))
    check_target(Path(target), to, overwrite)
    if not is_released(source) and kind_of(Path(source)) == "run":
        peek(source)
    starting.start_tensorflow()
    if to == KERAS:
        from moco_tf.exporting.converted import convert_to_keras

        result, text = convert_to_keras(source, target, overwrite=overwrite, **settings)
        return result, text, result["equal"]
    from moco_tf.convert import convert, describe

    result = convert(source, target, to=to, overwrite=overwrite, **settings)
    return result, describe(result), result["equal"]
