"""Recorded traces are met, changed ones are caught, and so is each known mistake in the step."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import moco_tf.methods.moco as step_module
import moco_tf.verify.replay as replay_module
from moco_tf.errors import InputError
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.verify import verify_files
from moco_tf.verify.traces import bundled_traces, read_trace

V1, V2 = (p for p in bundled_traces() if "moco_v" in p)
DEMO = next(p for p in bundled_traces() if "asym" in p)


def failures(result):
    return [
        (file["file"], row)
        for file in result["files"]
        for row in file["quantities"]
        if not row["ok"]
    ]


def traces_in(folder):
    found = []
    for path in sorted(Path(folder).glob("*.npz")):
        try:
            read_trace(str(path))
        except InputError:
            continue
        found.append(str(path))
    return found


@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("devices", [1, 2])
def test_bundled_moco_traces_are_met(devices, float64):
    assert failures(verify_files([V1, V2], devices=devices, float64=float64)) == []


def test_bundled_demo_traces_are_met():
    demos = [path for path in bundled_traces() if "colab" in path]
    assert failures(verify_files(demos, devices=1, float64=False)) == []


@pytest.mark.golden
@pytest.mark.parametrize("float64", [False, True])
def test_every_recorded_trace_is_met_on_one_device(golden_folder, float64):
    paths = traces_in(golden_folder)
    assert paths
    assert failures(verify_files(paths, devices=1, float64=float64)) == []


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("devices", [2, 4])
def test_every_recorded_trace_is_met_on_several_devices(golden_folder, devices, float64):
    for path in traces_in(golden_folder):
        config = read_trace(path).config
        if config.get("world", config.get("bn_splits")) % devices == 0:
            assert failures(verify_files([path], devices=devices, float64=float64)) == []


def changed(tmp_path, path, change):
    with np.load(path) as z:
        arrays = {name: z[name].copy() for name in z.files}
    meta = json.loads(str(arrays["meta_json"]))
    change(arrays, meta["config"])
    arrays["meta_json"] = np.array(json.dumps(meta))
    target = tmp_path / "changed.npz"
    np.savez(target, **arrays)
    return str(target)


def shift(name, amount):
    def change(arrays, config):
        arrays[name] = arrays[name] + np.asarray(amount, arrays[name].dtype)

    return change


def swap_shuffle(arrays, config):
    arrays["idx_shuffle"] = arrays["idx_shuffle"][:, ::-1].copy()


CHANGES = {
    "1-D parameter": shift("step6/encoder_q.bn1.weight", 6e-5),
    "kernel": lambda a, c: a.update(
        {"step6/encoder_q.conv1.weight": a["step6/encoder_q.conv1.weight"] * (1 + 8e-5)}
    ),
    "key encoder": shift("step6/encoder_k.fc.bias", 2e-5),
    "running mean": lambda a, c: a.update(
        {
            "step6/encoder_q.bn1.running_mean": a["step6/encoder_q.bn1.running_mean"]
            + 2e-4 * np.sqrt(a["step6/encoder_q.bn1.running_var"])
        }
    ),
    "running variance": lambda a, c: a.update(
        {"step6/encoder_k.bn1.running_var": a["step6/encoder_k.bn1.running_var"] * 1.001}
    ),
    "queue": shift("step6/queue", 3e-4),
    "momentum": lambda a, c: a.update(
        {
            "step6_momentum/encoder_q.conv1.weight": a["step6_momentum/encoder_q.conv1.weight"]
            * 1.005
        }
    ),
    "pointer": shift("step6/queue_ptr", 1),
    "learning rate": shift("lr", 1e-6),
    "schedule": lambda a, c: c.update(schedule=[2]),
    "temperature": lambda a, c: c.update(T=c["T"] * 1.01),
    "momentum of the keys": lambda a, c: c.update(m=0.995),
    "shuffle": swap_shuffle,
    "accuracy": shift("acc5", 12.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_trace_is_caught(tmp_path, name):
    path = changed(tmp_path, V1, CHANGES[name])
    result = verify_files([path], devices=1, float64=False)
    assert not result["ok"]
    assert result["files"][0]["first_failure"]["step"] >= 1


def keras_velocity(w, u, g, lr, *, momentum, weight_decay):
    u = momentum * u - lr * (g + weight_decay * w)
    return w + u, u


def nesterov(w, u, g, lr, *, momentum, weight_decay):
    g = g + weight_decay * w
    u = momentum * u + g
    return w - lr * (g + momentum * u), u


def no_decay(w, u, g, lr, *, momentum, weight_decay):
    u = momentum * u + g
    return w - lr * u, u


def decay_of_matrices_only(w, u, g, lr, *, momentum, weight_decay):
    decay = weight_decay if len(w.shape) > 1 else 0.0
    u = momentum * u + g + decay * w
    return w - lr * u, u


class LateUpdate(step_module.MoCo):
    """The momentum update after the optimizer's step: the same keys, another key encoder."""

    def train_step(self, *args):
        before = [tf.identity(key) for key in self.key_parameters]
        result = super().train_step(*args)
        for key, old, query in zip(self.key_parameters, before, self.parameters, strict=True):
            key.assign(old * self.key_momentum + query * (1 - self.key_momentum))
        return result


def plain(module, name, value):
    return lambda patch: patch.setattr(module, name, value)


def batch_norm_default(**changes):
    def apply(patch):
        original = GroupBatchNorm.__init__

        def init(self, *args, **kwargs):
            original(self, *args, **kwargs | changes)

        patch.setattr(GroupBatchNorm, "__init__", init)

    return apply


def late_rate(patch):
    original = replay_module.learning_rate
    patch.setattr(replay_module, "learning_rate", lambda s, **k: original(max(s - 1, 0), **k))


MISTAKES = {
    "no shuffle": plain(
        replay_module, "_permutation", lambda o: tf.range(o.shape[1], dtype=tf.int32)[None]
    ),
    "Keras velocity": plain(step_module, "sgd_update", keras_velocity),
    "learning rate one step late": late_rate,
    "Nesterov": plain(step_module, "sgd_update", nesterov),
    "no weight decay": plain(step_module, "sgd_update", no_decay),
    "no weight decay on 1-D parameters": plain(step_module, "sgd_update", decay_of_matrices_only),
    "key update after the optimizer": plain(replay_module, "MoCo", LateUpdate),
    "BN eps 1e-3": batch_norm_default(epsilon=1e-3),
    "BN momentum 0.99": batch_norm_default(momentum=0.99),
    "queue with this step's keys": plain(
        step_module,
        "queue_logits",
        lambda q, k, queue, t: (
            tf.concat(
                [
                    tf.reduce_sum(q * k, 1, keepdims=True),
                    q @ tf.transpose(tf.concat([k, queue], 0)),
                ],
                1,
            )[:, : 1 + queue.shape[0]]
            / t
        ),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_known_mistake_is_caught(monkeypatch, name):
    MISTAKES[name](monkeypatch)
    for path in (V1, V2):
        rows = verify_files([path], devices=1, float64=False)["files"][0]["quantities"]
        off = {row["quantity"] for row in rows if not row["ok"]}
        assert off - {"learning rate"}, path


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY nonsense", b"just text"]
)
def test_a_file_that_is_no_trace_is_named(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.npz is not a trace"):
        verify_files([str(path)])


def test_a_trace_that_lacks_an_array_is_named(tmp_path):
    path = changed(tmp_path, V1, lambda arrays, config: arrays.pop("idx_shuffle"))
    with pytest.raises(InputError, match="idx_shuffle"):
        verify_files([path])


def test_groups_that_do_not_divide_by_the_devices_are_refused():
    with pytest.raises(InputError, match="devices=4"):
        verify_files([V1], devices=4)
