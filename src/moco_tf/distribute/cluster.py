"""Which processes train together, on one or several machines: from flags, TF_CONFIG or SLURM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from moco_tf.errors import InputError

SLURM_PORTS = 20_000, 10_000  # first, and how many: a job's own, so that two share a machine


@dataclass(frozen=True)
class Cluster:
    """The workers, as host:port in one order for all, and which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.index == 0

    def name(self, index: int) -> str:
        """How a message calls a worker."""
        return f"worker {index} ({self.workers[index]})"


def find_cluster(
    workers: str | None, worker_index: int | str | None, environment: Mapping[str, str]
) -> Cluster | None:
    """Returns the cluster that the flags name, or else TF_CONFIG, or else SLURM; None: no other.

    Args:
        workers: "host:port,host:port,...", the same for every process.
        worker_index: which of them this process is, from 0.
        environment: of the process. TF_CONFIG: TensorFlow's {"cluster": ..., "task": ...} with
            tasks "worker" and perhaps one "chief". SLURM: counts inside a step (srun) of several
            tasks.

    Raises:
        InputError: what is named is no cluster, or this process is none of its workers.
    """
    if workers is not None or worker_index is not None:
        cluster = _from_flags(workers, worker_index)
    elif environment.get("TF_CONFIG", "").strip():
        cluster = _from_tf_config(environment["TF_CONFIG"])
    elif _int_or(environment.get("SLURM_STEP_NUM_TASKS"), 1) > 1:
        cluster = _from_slurm(environment)
    else:
        return None
    return cluster if len(cluster.workers) > 1 else None


def _from_flags(workers: str | None, worker_index: int | str | None) -> Cluster:
    if workers is None:
        raise InputError(
            f"worker_index={worker_index} needs the workers: --workers HOST:PORT,HOST:PORT."
        )
    addresses = tuple(part for part in workers.replace(" ", "").split(",") if part)
    if worker_index is None:
        raise InputError(
            f"workers={workers} needs the number of this process among them, from 0 to "
            f"{max(len(addresses) - 1, 0)}: --worker-index."
        )
    index = _int_or(worker_index, -1)
    _check("workers", addresses)
    if not 0 <= index < len(addresses):
        raise InputError(
            f"worker_index must be from 0 to {len(addresses) - 1}, a place in workers={workers}; "
            f"received worker_index={worker_index}."
        )
    return Cluster(addresses, index)


def _from_tf_config(text: str) -> Cluster:
    try:
        value = json.loads(text)
        jobs = {str(job): tuple(tasks) for job, tasks in value.get("cluster", {}).items()}
        task = value.get("task", {})
        kind, index = str(task.get("type", "worker")), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"TF_CONFIG is not the JSON that TensorFlow describes ({error}). Mend or unset it."
        ) from None
    if set(jobs) - {"chief", "worker"}:
        odd = sorted(set(jobs) - {"chief", "worker"})[0]
        raise InputError(
            f"TF_CONFIG names the job {odd!r}; all train alike here, as worker (or chief). Leave "
            f"it out."
        )
    chiefs = jobs.get("chief", ())
    addresses = chiefs + jobs.get("worker", ())
    if not addresses:
        return Cluster((), 0)
    _check("TF_CONFIG", addresses)
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise InputError(
            f"TF_CONFIG says that this process is {kind} {index}, of which its cluster has none."
        )
    return Cluster(addresses, index + (len(chiefs) if kind == "worker" else 0))


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    distribution = environment.get("SLURM_DISTRIBUTION", "block")
    if not distribution.startswith("block"):
        raise InputError(
            f"SLURM_DISTRIBUTION must begin with block, so that tasks are numbered machine by "
            f"machine; received {distribution!r}. Use srun --distribution=block."
        )
    try:
        hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
        tasks = slurm.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        index = int(environment["SLURM_PROCID"])
        first, count = SLURM_PORTS
        port = first + _int_or(environment.get("SLURM_JOB_ID"), 0) % count
        pairs = list(zip(hosts, tasks, strict=True))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(
            f"SLURM's environment does not tell the workers ({error}). Give --workers and "
            f"--worker-index."
        ) from None
    addresses = tuple(f"{host}:{port + task}" for host, number in pairs for task in range(number))
    if not 0 <= index < len(addresses):
        raise InputError(f"SLURM_PROCID={index} is not a task of the step's {len(addresses)}.")
    return Cluster(addresses, index)


def _check(source: str, addresses: tuple[str, ...]) -> None:
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not 0 < _int_or(port, 0) < 2**16:
            raise InputError(
                f"{source} must be addresses HOST:PORT; received {address!r}. Use a free port, as "
                f"in 10.0.0.1:2222."
            )
    double = [address for address in addresses if addresses.count(address) > 1]
    if double:
        raise InputError(f"{source} names {double[0]} twice. Give every process a port of its own.")


def _int_or(text: int | str | None, otherwise: int) -> int:
    """The whole number that `text` is, or `otherwise`."""
    try:
        return int(text) if text is not None else otherwise
    except ValueError:
        return otherwise
