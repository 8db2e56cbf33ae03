"""Flags, TF_CONFIG and SLURM's environment name the same workers; what is none is refused."""

import json

import pytest

from moco_tf.distribute.cluster import Cluster, find_cluster
from moco_tf.errors import InputError

TWO = Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), 1)


def tf_config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_flags_come_before_the_environment():
    environment = tf_config({"worker": ["a:1", "b:1", "c:1"]}, index=2)
    assert find_cluster("10.0.0.1:2222, 10.0.0.2:2222", "1", environment) == TWO
    assert find_cluster(None, None, environment) == Cluster(("a:1", "b:1", "c:1"), 2)


def test_one_process_is_no_cluster():
    assert find_cluster(None, None, {}) is None
    assert find_cluster("10.0.0.1:2222", "0", {}) is None
    assert find_cluster(None, None, tf_config({"worker": ["a:1"]})) is None
    assert find_cluster(None, None, {"TF_CONFIG": "{}"}) is None
    assert find_cluster(None, None, {"SLURM_STEP_NUM_TASKS": "1"}) is None


def test_the_chief_of_tf_config_is_the_first_worker():
    jobs = {"chief": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222"]}
    assert find_cluster(None, None, tf_config(jobs, "worker", 0)) == TWO
    chief = find_cluster(None, None, tf_config(jobs, "chief", 0))
    assert chief.chief and chief.workers == TWO.workers
    assert not TWO.chief


def test_slurm_numbers_the_tasks_of_a_step_over_its_machines():
    environment = {
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[08-09]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        "SLURM_PROCID": "2",
        "SLURM_JOB_ID": "1234567",
    }
    expected = Cluster(("node08:24567", "node08:24568", "node09:24567"), 2)
    assert find_cluster(None, None, environment) == expected


@pytest.mark.parametrize(
    ("workers", "index", "environment", "message"),
    [
        ("a:1,b:1", None, {}, "from 0 to 1: --worker-index"),
        (None, "1", {}, "worker_index=1 needs the workers"),
        ("a:1,b:1", "2", {}, "worker_index must be from 0 to 1.*received worker_index=2"),
        ("a:1,b:1", "x", {}, "received worker_index=x"),
        ("a:1,b", "0", {}, "received 'b'"),
        ("a:1,b:70000", "0", {}, "received 'b:70000'"),
        ("a:1,a:1", "0", {}, "names a:1 twice"),
        (None, None, {"TF_CONFIG": "{"}, "TF_CONFIG is not the JSON"),
        (None, None, {"TF_CONFIG": "[]"}, "TF_CONFIG is not the JSON"),
        (None, None, tf_config({"worker": ["a:1"], "ps": ["b:1"]}), "the job 'ps'"),
        (None, None, tf_config({"worker": ["a:1", "b:1"]}, index=2), "worker 2, of which"),
        (None, None, tf_config({"worker": ["a:1", "b"]}), "received 'b'"),
        (None, None, {"SLURM_STEP_NUM_TASKS": "2"}, "SLURM's environment does not tell"),
    ],
)
def test_what_is_no_cluster_is_refused(workers, index, environment, message):
    with pytest.raises(InputError, match=message):
        find_cluster(workers, index, environment)
