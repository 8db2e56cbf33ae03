"""What a verification found: the largest error of each quantity, and the first that is off."""

import math


class Ledger:
    """Collects errors beside their tolerances; keeps the worst of each quantity."""

    def __init__(self):
        self.rows: dict[str, dict] = {}
        self.first_failure: dict | None = None

    def add(self, quantity, step, array, error, tolerance) -> None:
        """Notes one error of step 1, 2, ... An error that is not a finite number is too large.

        `array` names the recorded array.
        """
        finite = math.isfinite(error)
        row = {
            "quantity": quantity,
            "step": int(step),
            "array": array,
            "error": float(error) if finite else None,  # JSON knows no NaN
            "tolerance": float(tolerance),
            "ok": bool(finite and error <= tolerance),
        }
        if not row["ok"] and self.first_failure is None:
            self.first_failure = {name: row[name] for name in row if name != "ok"}
        if quantity not in self.rows or _severity(row) > _severity(self.rows[quantity]):
            self.rows[quantity] = row

    def result(self) -> dict:
        """Returns {"ok", "first_failure", "quantities"}."""
        return {
            "ok": self.first_failure is None,
            "first_failure": self.first_failure,
            "quantities": list(self.rows.values()),
        }


def _severity(row) -> tuple[bool, float, float]:
    """Sorts by failure, then by error over tolerance."""
    if row["error"] is None:
        return True, math.inf, math.inf
    ratio = row["error"] / row["tolerance"] if row["tolerance"] else row["error"]
    return not row["ok"], ratio, row["error"]


def print_report(result: dict, file=None) -> None:
    """Prints what `verify_files` returned: a table for each trace, then one line of verdict."""
    for trace in result["files"]:
        print(
            f"{trace['file']}: {trace['kind']}, {trace['steps']} steps in {trace['precision']} "
            f"on {_devices(trace['devices'], result['devices'])}",
            file=file,
        )
        width = max(len(row["quantity"]) for row in trace["quantities"])
        print(f"  {'quantity':{width}}  {'largest error':>13}  {'tolerance':>9}  step", file=file)
        for row in trace["quantities"]:
            mark = "" if row["ok"] else "  OFF"
            print(
                f"  {row['quantity']:{width}}  {_number(row['error']):>13}  "
                f"{_number(row['tolerance']):>9}  {row['step']:>4}{mark}",
                file=file,
            )
    for trace in result["files"]:
        if trace["first_failure"]:
            print(f"FAILED {trace['file']}: {_failure(trace['first_failure'])}", file=file)
    if result["ok"]:
        print(f"all {len(result['files'])} traces are within tolerance", file=file)


def _devices(used: int, asked: int) -> str:
    if used == asked:
        return f"{used} device(s)"
    return f"{used} of {asked} devices (its BatchNorm groups do not spread over {asked})"


def _failure(failure: dict) -> str:
    return (
        f"first off is {failure['quantity']} ({failure['array']}) at step {failure['step']}: "
        f"error {_number(failure['error'])}, tolerance {_number(failure['tolerance'])}"
    )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"
