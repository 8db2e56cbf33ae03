"""Comparing arrays with recorded ones: the largest error of each quantity beside its tolerance."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Comparison:
    """Collects comparisons; `worst` and `first_failure` read the result."""

    rows: list[dict] = field(default_factory=list)

    def add(self, quantity: str, step: int, error: float, tolerance: float, name: str = "") -> None:
        """Notes one comparison; an error that is not a number fails."""
        ok = bool(error <= tolerance)
        row = {
            "quantity": quantity,
            "step": step,
            "error": float(error) if np.isfinite(error) else None,
            "tolerance": float(tolerance),
            "ok": ok,
            "name": name,
        }
        self.rows.append(row)

    def close(self, quantity, step, ours, recorded, tolerance, *, scale=1.0, name="") -> None:
        """Largest |ours - recorded| / scale against `tolerance`; `scale` may be an array."""
        ours, recorded = np.asarray(ours, np.float64), np.asarray(recorded, np.float64)
        if ours.shape != recorded.shape:
            self.add(quantity, step, np.inf, tolerance, f"{name} {recorded.shape}".strip())
            return
        scale = np.maximum(scale, np.finfo(np.float64).tiny)
        error = float(np.max(np.abs(ours - recorded) / scale)) if ours.size else 0.0
        self.add(quantity, step, error, tolerance, name)

    def of_largest(self, quantity, step, ours, recorded, tolerance, *, name="") -> None:
        """Like `close`, relative to the recorded array's largest value."""
        largest = np.max(np.abs(recorded)) if np.size(recorded) else 1.0
        self.close(quantity, step, ours, recorded, tolerance, scale=largest, name=name)

    def relative_l2(self, quantity, step, ours, recorded, tolerance, *, name="") -> None:
        """||ours - recorded|| / ||recorded||."""
        ours, recorded = np.asarray(ours, np.float64), np.asarray(recorded, np.float64)
        if ours.shape != recorded.shape:
            self.add(quantity, step, np.inf, tolerance, name)
            return
        norm = max(np.linalg.norm(recorded), np.finfo(np.float64).tiny)
        self.add(quantity, step, float(np.linalg.norm(ours - recorded) / norm), tolerance, name)

    def worst(self) -> list[dict]:
        """One row a quantity: the one nearest to (or farthest past) its tolerance."""
        best: dict[str, dict] = {}
        for row in self.rows:
            if row["quantity"] not in best or _ratio(row) > _ratio(best[row["quantity"]]):
                best[row["quantity"]] = row
        return list(best.values())

    def first_failure(self) -> dict | None:
        """The failing row of the earliest step, in the order of the step's computation."""
        failing = [row for row in self.rows if not row["ok"]]
        return min(failing, key=lambda row: row["step"]) if failing else None


def _ratio(row: dict) -> float:
    if row["error"] is None:
        return np.inf
    if not row["tolerance"]:
        return np.inf if row["error"] else 0.0
    return row["error"] / row["tolerance"]
