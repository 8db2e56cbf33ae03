"""`moco-tf export`."""

import json
from pathlib import Path

from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.export.targets import FORMATS, check_format, check_out


def add(commands) -> None:
    """Adds the command to the subparsers."""
    export = commands.add_parser(
        "export", help="a run's encoder for Keras, TensorFlow, ONNX or LiteRT", allow_abbrev=False
    )
    export.add_argument("folder", metavar="RUN", help="run folder, converted or fine-tuned file")
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument("--out", required=True, metavar="PATH", help="file or folder to write")
    export.add_argument("--with-head", action="store_true", help="end in the head's output")
    export.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 pixels, not normalised ones"
    )
    export.add_argument("--data", help="images to compare on; none: the run's own, or shapes")
    export.add_argument("--data-licence", metavar="TEXT", help="for the model card")
    export.add_argument("--overwrite", action="store_true", help="replace an existing PATH")
    export.set_defaults(run=_export)


def _export(options) -> int:
    from moco_tf.runs.snapshot import peek

    check_format(options.format)
    check_out(Path(options.out), options.format, options.overwrite)
    peek(options.folder)
    check_data(options.data)
    start_tensorflow()
    from moco_tf.export.command import describe, export

    result = export(
        options.folder,
        options.out,
        to=options.format,
        with_head=options.with_head,
        with_preprocessing=options.with_preprocessing,
        data=options.data,
        data_licence=options.data_licence,
        overwrite=options.overwrite,
    )
    if options.json:
        print(json.dumps(result))
    else:
        print(describe(result))
    return 0 if result["equal"] else 1
