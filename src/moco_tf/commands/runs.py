"""`moco-tf runs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moco_tf.commands.parser import Outcome, Parser
from moco_tf.errors import InputError, one_line
from moco_tf.runs.config_file import CONFIG
from moco_tf.runs.overview import compare_runs, list_runs

FOLDER = "runs"
LONGEST = 40  # characters of the data's name that are shown, its last ones


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument(
        "folder", nargs="?", metavar="FOLDER", default=FOLDER, help="holds runs [%(default)s]"
    )
    command.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="two runs: what differs in config and results"
    )


def run(folder: str, diff: list[str] | None, json: bool) -> Outcome:
    if diff:
        result = compare_runs(*(_run_in(folder, name) for name in diff))
        return result, difference_text(result), True
    if folder == FOLDER and not Path(folder).exists():
        raise InputError(f"there is no folder {FOLDER} here. Give the folder that holds the runs.")
    found = list_runs(folder)
    text = runs_text(found) if found else f"{one_line(folder)} holds no runs"
    return {"folder": folder, "runs": found}, text, True


def _run_in(folder: str, name: str) -> Path:
    """The run folder of that path, or of that name in `folder`."""
    inner = Path(folder) / name
    return inner if not (Path(name) / CONFIG).exists() and inner.is_dir() else Path(name)


def runs_text(found: list[dict[str, Any]]) -> str:
    """A line for each run."""
    rows = [["run", "state", "recipe", "data", "epochs", "kNN"]]
    for one in found:
        state = f"{one['state']} ({one['process']})" if one["process"] else one["state"]
        if one["problem"]:
            rows.append([one["run"], state, f"see: moco-tf check {one['run']}"])
            continue
        done = "?" if one["epochs_done"] is None else one["epochs_done"]
        top1 = "" if one["knn_top1"] is None else f"{one['knn_top1']:.1f}%"
        data = one["data"] if len(one["data"]) <= LONGEST else f"...{one['data'][-LONGEST:]}"
        rows.append([one["run"], state, one["recipe"], data, f"{done}/{one['epochs']}", top1])
    return _table(rows)


def difference_text(result: dict[str, Any]) -> str:
    """A table of what differs, a value of each run beside the other."""
    rows = [["", *result["runs"]]]
    for part in ("config", "results", "versions"):
        lines = [[f"  {name}", *map(_text, pair)] for name, pair in result[part].items()]
        rows += [[part], *(lines or [["  the same"]])]
    return _table(rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and len(value) == 64:  # a digest
        return f"{value[:12]}..."
    return "none" if value is None else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest value; a row may have fewer."""
    lines = [[one_line(value) for value in row] for row in rows]
    count = max(map(len, lines))
    full = [line for line in lines if len(line) == count]
    widths = [max(len(line[place]) for line in full) for place in range(count)]
    padded = ("  ".join(v.ljust(w) for v, w in zip(one, widths, strict=False)) for one in lines)
    return "\n".join(line.rstrip() for line in padded)
