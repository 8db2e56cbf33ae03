"""Experiment trackers beside TensorBoard: Weights & Biases, MLflow. Imports no TensorFlow.

A tracker works in a thread of its own: training neither waits for it nor ends with it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moco_tf.errors import DamagedError, InputError, line_of
from moco_tf.files.digests import read_json, write_json
from moco_tf.runs.folder import TRACKING

PROJECT = "moco-tf"  # of W&B, and MLflow's experiment, where the environment names none
# Seconds to wait for what is still to be sent: at the end of a run, and of one that was stopped,
# whose machine may soon be gone.
END_SECONDS, STOP_SECONDS = 30, 5


def check_tracker(name: str | None) -> None:
    """Raises `InputError` if the package of the tracker `name` is not installed."""
    spec = None if name is None else importlib.util.find_spec(name)
    # W&B's own folder ./wandb looks like a package without a file.
    if name is not None and (spec is None or spec.origin is None):
        raise InputError(f"track={name} needs an extra: pip install 'moco-tf[{name}]'.")


class Tracker:
    """Sends what a run reports to the tracker `name`; never raises, and never waits but at the end.

    A run that goes on is one run in the tracker too: `tracking.json` in the run folder keeps its
    id, and up to which step what was sent.

    Args:
        name: "wandb" or "mlflow", which their own environment variables configure.
        config: of the run, plain values.
        say: called with the one line on what went wrong.
    """

    def __init__(
        self, name: str, run_dir: Path, config: Mapping[str, Any], say: Callable[[str], None]
    ):
        self._name, self._path, self._say = name, run_dir / TRACKING, say
        self._title, self._config = run_dir.resolve().name, dict(config)
        self._queue: queue.SimpleQueue[tuple[str, int, dict] | None] = queue.SimpleQueue()
        self._summary: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def log(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Sends a row; one of a kind and step that was sent before is not sent again."""
        if self._thread.is_alive():
            self._queue.put((kind, step, dict(values)))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Has `close` send what the run ended with."""
        self._summary = dict(summary)

    def close(self) -> None:
        """Sends what is left, for a time; the rest is given up."""
        seconds = STOP_SECONDS if self._summary is None else END_SECONDS
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"track={self._name}: not all was sent in {seconds} s; the rest is given up")

    def _run(self) -> None:
        try:
            known = self._read()
            state = known.setdefault(self._name, {"run": None, "steps": {}})
            session = SESSIONS[self._name](state["run"], self._title, self._config)
            state["run"] = session.id
            write_json(self._path, known)
            while (row := self._queue.get()) is not None:
                kind, step, values = row
                if step > state["steps"].get(kind, -1):
                    state["steps"][kind] = step
                    write_json(self._path, known)  # first, so that a kill never sends it twice
                    session.log(step, values)
            session.close(self._summary)
        except Exception as error:  # each library has kinds of its own
            self._say(
                f"track={self._name} has failed, and training goes on without it ({line_of(error)})"
            )

    def _read(self) -> dict[str, Any]:
        try:
            return read_json(self._path)
        except FileNotFoundError:
            return {}
        except (OSError, DamagedError) as error:
            raise RuntimeError(f"{self._path}: {error}; remove it to begin a new run") from None


class _Wandb:
    """A run of Weights & Biases."""

    def __init__(self, run: str | None, title: str, config: dict[str, Any]):
        import wandb

        mode = wandb.setup(wandb.Settings(console="off", silent=True)).settings.mode
        # `init` would ask for a key on a terminal, and wait for an answer.
        if mode in ("online", "shared") and not wandb.login(prompt=False):
            raise RuntimeError("no API key; run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", title),
            id=run,
            resume="allow" if run else None,
            config=config,
        )
        self.id = self._run.id
        self._run.define_metric("step")  # W&B's own count of rows begins anew offline
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log({"step": step} | values)

    def close(self, summary: dict[str, Any] | None) -> None:
        self._run.summary.update(summary or {})
        self._run.finish(exit_code=0 if summary else 1)


class _Mlflow:
    """A run of MLflow."""

    def __init__(self, run: str | None, title: str, config: dict[str, Any]):
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        from mlflow import MlflowClient, entities

        self._entities, self._client = entities, MlflowClient()
        if run:
            self._client.update_run(run, status="RUNNING")
        else:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment()
            name = os.environ.get("MLFLOW_RUN_NAME", title)
            run = self._client.create_run(experiment, run_name=name).info.run_id
            params = [entities.Param(key, str(value)) for key, value in config.items()]
            self._client.log_batch(run, params=params)
        self.id = run

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def log(self, step: int, values: dict[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(k, float(v), now, step) for k, v in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self, summary: dict[str, Any] | None) -> None:
        tags = [self._entities.RunTag(k, str(v)) for k, v in (summary or {}).items()]
        self._client.log_batch(self.id, tags=tags)
        self._client.set_terminated(self.id, "FINISHED" if summary else "KILLED")


SESSIONS: dict[str, Callable[[str | None, str, dict[str, Any]], Any]] = {
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}
