"""`moco-tf verify`: replay files, and print each quantity's largest error beside its tolerance."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from moco_tf.verify.replay import replay
from moco_tf.verify.traces import bundled_traces, read_trace


def verify_files(
    paths: Sequence[str], *, devices: int | None = None, float64: bool = False
) -> dict:
    """Replays each trace and returns what was found.

    Args:
        paths: recorded traces; none: those that come with the package.
        devices: as for pre-training.
        float64: compute in double precision, and compare with the double-precision records too.

    Returns:
        {"ok", "precision", "devices", "files": [{"file", "kind", "ok", "first_failure",
        "quantities"}]}.

    Raises:
        InputError: a file that is no trace, or groups that do not divide by the devices.
    """
    traces = [read_trace(str(path)) for path in (paths or bundled_traces())]
    files = []
    for trace in traces:
        comparison = replay(trace, devices=devices, float64=float64)
        failure = comparison.first_failure()
        files.append(
            {
                "file": trace.path,
                "kind": trace.kind,
                "ok": failure is None,
                "first_failure": failure,
                "quantities": comparison.worst(),
            }
        )
    return {
        "ok": all(file["ok"] for file in files),
        "precision": "float64" if float64 else "float32",
        "devices": devices or 1,
        "files": files,
    }


def print_report(result: dict) -> None:
    """Prints a table for each file, and the first quantity and step that is off."""
    console = Console(highlight=False)
    for file in result["files"]:
        table = Table("quantity", "step", "largest error", "tolerance", "", title=file["file"])
        for row in file["quantities"]:
            error = "not comparable" if row["error"] is None else f"{row['error']:.2e}"
            mark = "ok" if row["ok"] else "OFF"
            table.add_row(row["quantity"], str(row["step"]), error, f"{row['tolerance']:.0e}", mark)
        console.print(table)
        failure = file["first_failure"]
        if failure:
            where = f" ({failure['name']})" if failure["name"] else ""
            console.print(
                f"OFF: first at step {failure['step']}: {failure['quantity']}{where}", markup=False
            )
    verdict = "within tolerance" if result["ok"] else "NOT within tolerance"
    console.print(
        f"{len(result['files'])} trace(s), {result['precision']}, {result['devices']} device(s): "
        f"{verdict}"
    )
