"""`moco-tf check`."""

import json

from moco_tf.runs.check import check_run, report


def add(commands) -> None:
    """Adds the command to the subparsers."""
    check = commands.add_parser(
        "check", help="whether every file of a run is whole", allow_abbrev=False
    )
    check.add_argument("folder", metavar="RUN", help="run folder, results in it, or encoder file")
    check.set_defaults(run=_check)


def _check(options) -> int:
    result = check_run(options.folder)
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(report(result)))
    return 0 if result["whole"] else 1
