"""`moco-tf verify`."""

import json

from moco_tf.commands.starting import start_tensorflow


def add(commands) -> None:
    """Adds the command to the subparsers."""
    verify = commands.add_parser(
        "verify", help="replay recorded steps of the official code", allow_abbrev=False
    )
    verify.add_argument("files", nargs="*", metavar="TRACE.npz")
    verify.add_argument("--devices", type=int, default=None)
    verify.add_argument("--float64", action="store_true", help="compare in double precision")
    verify.set_defaults(run=_verify)


def _verify(options) -> int:
    start_tensorflow()
    from moco_tf.verify import print_report, verify_files

    result = verify_files(options.files, devices=options.devices, float64=options.float64)
    if options.json:
        print(json.dumps(result))
    else:
        print_report(result)
    return 0 if result["ok"] else 1
