"""`moco-tf check`."""

from collections.abc import Mapping
from typing import Any

from moco_tf.api import starting
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.errors import InputError
from moco_tf.runs.check import check_run


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument(
        "folder", nargs="?", metavar="RUN", help="run folder, results in it, or encoder file"
    )
    command.add_argument("--data", metavar="D", help="instead: read every image of D")


def run(folder: str | None, data: str | None, json: bool) -> Outcome:
    if (folder is None) == (data is None):
        raise InputError("check takes a run folder or --data, one of them. Give one.")
    if folder is not None:
        result = check_run(folder)
        return result, "\n".join(report(result)), result["whole"]
    starting.check_data(data)
    starting.start_tensorflow()
    from moco_tf.data.check_data import check_data
    from moco_tf.training.reporting import to_stderr

    result = check_data(data, to_stderr)
    lines = [f"{one['file']}: {one['reason']}" for one in result["unreadable"]]
    lines.append(f"{data}: {len(lines)} of {result['images']} images cannot be read")
    return result, "\n".join(lines), result["whole"]


def report(result: Mapping[str, Any]) -> list[str]:
    """Returns the lines that say it; the last one is the outcome."""
    files = result["files"]
    lines = [f"{file['file']}: {file['note']}" for file in files if file["note"]]
    named = {
        "without a digest, only their form was looked at": [
            file["file"] for file in files if not (file["carried"] or file["damage"])
        ],
        "temporary, of a save that did not end": result["leftovers"],
        "unknown, not looked at": result["unknown"],
    }
    lines += [f"{what}: {', '.join(names)}" for what, names in named.items() if names]
    if result["training"]:
        lines.append(f"process {result['training']} is training in it")
    lines += [f"damaged: {file['file']}: {file['damage']}" for file in files if file["damage"]]
    about = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    if result["state_sha256"]:
        about += f", at step {result['step']} the state {result['state_sha256']}"
    not_so = "" if result["whole"] else f"not whole, first {result['damaged']['file']}"
    lines.append(f"{result['run']} is {not_so or 'whole'}: {about}")
    return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines]
