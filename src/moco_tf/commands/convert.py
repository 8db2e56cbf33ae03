"""`moco-tf convert`."""

import json
from pathlib import Path

from moco_tf.commands.starting import start_tensorflow
from moco_tf.convert.targets import SUFFIXES, check_target


def add(commands) -> None:
    """Adds the command to the subparsers."""
    convert = commands.add_parser(
        "convert", help="take an encoder to and from PyTorch's formats", allow_abbrev=False
    )
    convert.add_argument("source", metavar="SOURCE", help="run folder or file")
    convert.add_argument("target", metavar="TARGET", help="file to write")
    convert.add_argument("--to", required=True, choices=[*SUFFIXES])
    convert.add_argument("--with-head", action="store_true", help="keep fc where it is left out")
    convert.add_argument("--image-size", type=int, metavar="X", help="none: 224, small stem 32")
    convert.add_argument("--normalization", metavar="X", help="none: imagenet, small stem cifar10")
    convert.add_argument("--key", metavar="X", help="of several encoders in SOURCE, that under X")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")
    convert.set_defaults(run=_convert)


def _convert(options) -> int:
    from moco_tf.convert.source import kind_of
    from moco_tf.runs.snapshot import peek

    check_target(Path(options.target), options.to, options.overwrite)
    if kind_of(Path(options.source)) == "run":
        peek(options.source)
    start_tensorflow()
    from moco_tf.convert import convert, describe

    result = convert(
        options.source,
        options.target,
        to=options.to,
        with_head=options.with_head,
        image_size=options.image_size,
        normalization=options.normalization,
        key=options.key,
        overwrite=options.overwrite,
    )
    if options.json:
        print(json.dumps(result))
    else:
        print(describe(result))
    return 0 if result["equal"] else 1
