"""Recorded traces are met, changed ones are caught, and so is each known mistake in the step."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import moco_tf.methods.moco as step_module
import moco_tf.verify.replay as replay_module
import moco_tf.verify.run as run_module
from moco_tf.errors import InputError
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.training.replica import Replica
from moco_tf.verify import print_report, verify_files
from moco_tf.verify.tolerances import demo_key_parameters
from moco_tf.verify.traces import bundled_traces, read_trace

V1, V2 = (str(p) for p in bundled_traces() if "moco_v" in p.name)
DEMO = next(str(p) for p in bundled_traces() if "asym" in p.name)
SYMMETRIC = next(str(p) for p in bundled_traces() if "colab_sym" in p.name)


def failures(result):
    return [
        (file["file"], row)
        for file in result["files"]
        for row in file["quantities"]
        if not row["ok"]
    ]


def traces_in(folder):
    """The recorded traces that do not come with the package as well."""
    found, bundled = [], [path.read_bytes() for path in bundled_traces()]
    for path in sorted(Path(folder).glob("*.npz")):
        if path.read_bytes() in bundled:
            continue
        try:
            read_trace(str(path))
        except InputError:
            continue
        found.append(str(path))
    return found


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("devices", "float64"), [(1, False), long(2, True), long(1, True), long(2, False)]
)
def test_bundled_moco_traces_are_met(devices, float64, shared_replay):
    assert failures(verify_files([V1, V2], devices=devices, float64=float64)) == []


@pytest.mark.parametrize(
    ("path", "float64"),
    [slow(DEMO, False), long(SYMMETRIC, True), long(DEMO, True), long(SYMMETRIC, False)],
)
def test_bundled_demo_traces_are_met(path, float64, shared_replay):
    assert failures(verify_files([path], devices=1, float64=float64)) == []


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("float64", [pytest.param(False, marks=pytest.mark.long), True])
def test_every_other_recorded_trace_is_met_on_one_device(golden_folder, float64):
    paths = traces_in(golden_folder)
    assert paths
    assert failures(verify_files(paths, devices=1, float64=float64)) == []


@pytest.mark.golden
@pytest.mark.long
@pytest.mark.parametrize(("devices", "float64"), [(2, True), (4, False), (2, False), (4, True)])
def test_every_other_recorded_trace_is_met_on_several_devices(golden_folder, devices, float64):
    paths = traces_in(golden_folder)
    assert paths
    assert failures(verify_files(paths, devices=devices, float64=float64)) == []


@pytest.fixture(scope="module")
def replays():
    return {}


@pytest.fixture
def shared_replay(monkeypatch, replays):
    """One compiled replay for all traces of the same settings: each starts by setting its state."""

    def replay(**settings):
        key = json.dumps({n: v for n, v in settings.items() if n != "strategy"}, sort_keys=True)
        key += str(id(settings["strategy"]))
        if key not in replays:
            replays[key] = replay_module.Replay(**settings)
        return replays[key]

    monkeypatch.setattr(run_module, "Replay", replay)


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
    "statistics of another rank": lambda a, c: a["bn_after"].__setitem__(
        (2, 1, slice(-12, None)), a["bn_after"][2, 1, -12:] * 1.01
    ),
    "float64 run": shift("fp64/logits", 0.007),
    "not a number": shift("logits", np.nan),
    "no permutation": lambda a, c: a["idx_shuffle"].__setitem__((5, 0), a["idx_shuffle"][5, 1]),
    "momentum to restart from": lambda a, c: a.update(
        {"step3_momentum/encoder_q.fc.weight": a["step3_momentum/encoder_q.fc.weight"] * 1.006}
    ),
}
QUICK = ("kernel", "running mean", "queue", "momentum", "schedule", "accuracy", "not a number")


@pytest.mark.parametrize("name", [n if n in QUICK else slow(n) for n in CHANGES])
def test_a_changed_trace_is_caught(tmp_path, name, shared_replay):
    path = changed(tmp_path, V1, CHANGES[name])
    result = verify_files([path], devices=1, float64=False)
    assert not result["ok"]
    assert result["files"][0]["first_failure"]["step"] >= 1
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    text = io.StringIO()
    print_report(result, text)
    assert f"FAILED {path}: first off is" in text.getvalue()


def test_the_first_failure_names_quantity_and_step(tmp_path, shared_replay):
    path = changed(tmp_path, V1, shift("queue_ptr", np.array([0, 0, 0, 1, 0, 1])))
    failure = verify_files([path])["files"][0]["first_failure"]
    assert (failure["quantity"], failure["step"], failure["error"]) == ("queue pointer", 4, 1)


DEMO_CHANGES = {
    "enqueued": lambda a, c: a["enqueued"].__setitem__((0, 5), a["enqueued"][0, 5] + 6e-4),
    "temperature": lambda a, c: c.update(T=0.101),
    "float64 run": lambda a, c: a["fp64/param_k_dot"].__setitem__((0, 3), 9.0),
}


@pytest.mark.parametrize("name", [long(name) for name in DEMO_CHANGES])
def test_a_changed_demo_trace_is_caught(tmp_path, name, shared_replay):
    path = changed(tmp_path, DEMO, DEMO_CHANGES[name])
    assert not verify_files([path])["ok"]


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

    def train_step(self, *args, **options):
        before = [tf.identity(key) for key in self.key.parameters]
        result = super().train_step(*args, **options)
        for key, old, query in zip(self.key.parameters, before, self.query.parameters, strict=True):
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


def no_shuffle(patch):
    def unshuffle(keys, permutation, rows):
        return tf.gather(keys, tf.math.invert_permutation(rows.reshape(-1)))

    def encode(self, compiled, network, images, order, statistics=None):
        return original(self, compiled, network, images, tf.range(order.shape[0]), statistics)

    original = Replica.encode
    patch.setattr(Replica, "encode", encode)
    patch.setattr(step_module, "unshuffle", unshuffle)


def late_rate(patch):
    original, held = replay_module.Replay.step, []

    def step(self, view1, view2, permutations, learning_rate):
        held.append(learning_rate)
        return original(self, view1, view2, permutations, held[-2:][0])

    patch.setattr(replay_module.Replay, "step", step)


MISTAKES = {
    "no shuffle": no_shuffle,
    "Keras velocity": plain(replay_module, "sgd_update", keras_velocity),
    "learning rate one step late": late_rate,
    "Nesterov": plain(replay_module, "sgd_update", nesterov),
    "no weight decay": plain(replay_module, "sgd_update", no_decay),
    "no weight decay on 1-D parameters": plain(replay_module, "sgd_update", decay_of_matrices_only),
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


IN_MOCO = ("no shuffle", "queue with this step's keys")


# The tests of the optimizer, of BatchNorm and of the step show the others as well.
@pytest.mark.parametrize("path", [V1, long(V2)])
@pytest.mark.parametrize("name", [slow(n) if n in IN_MOCO else long(n) for n in MISTAKES])
def test_each_known_mistake_is_caught(monkeypatch, name, path):
    MISTAKES[name](monkeypatch)
    assert not verify_files([path], devices=1, float64=False)["ok"]


@pytest.mark.long
def test_the_demo_traces_show_a_late_key_update(monkeypatch):
    MISTAKES["key update after the optimizer"](monkeypatch)
    failure = verify_files([DEMO])["files"][0]["first_failure"]
    assert failure["quantity"].startswith("key encoder parameter")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY nonsense", b"just text"]
)
def test_a_file_that_is_no_trace_is_named(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.npz is not a trace"):
        verify_files([str(path)])


@pytest.mark.parametrize(
    "name",
    ["idx_shuffle", "fp64/k", "step3/encoder_k.bn1.bias", "step6_momentum/encoder_q.fc.bias"],
)
def test_a_trace_that_lacks_an_array_is_named(tmp_path, name, shared_replay):
    path = changed(tmp_path, V1, lambda arrays, config: arrays.pop(name))
    with pytest.raises(InputError, match=rf"changed\.npz .*{name}"):
        verify_files([path])


def test_an_array_that_the_encoder_has_not_is_named(tmp_path, shared_replay):
    name = "step3/encoder_q.bn9.weight"
    path = changed(tmp_path, V1, lambda arrays, config: arrays.update({name: np.ones(3)}))
    with pytest.raises(InputError, match=rf"changed\.npz .*{name}"):
        verify_files([path])


def test_a_restart_without_its_state_is_named(tmp_path, shared_replay):
    def change(arrays, config):  # the momentum buffers of step 3 stay
        config["snaps"] = [1, 6]
        for name in [name for name in arrays if name.startswith("step3/")]:
            del arrays[name]

    path = changed(tmp_path, V1, change)
    with pytest.raises(InputError, match=r"changed\.npz .*step3/queue"):
        verify_files([path])


def other_format(arrays, config):
    """What a recorder may store in another way, without meaning anything else."""
    for name in ("init/encoder_q.bn1", "step6/encoder_k.bn1"):
        arrays[f"{name}.num_batches_tracked"] = np.array(6)
    arrays["lr"] = arrays["lr"].astype(np.float32)
    arrays["idx_shuffle"] = arrays["idx_shuffle"].astype(np.int32)
    if config["cos"]:
        config["schedule"] = None
    del config["seed"]


@pytest.mark.parametrize("path", [V1, V2])
def test_another_format_of_the_same_trace_is_met(tmp_path, path, shared_replay):
    assert failures(verify_files([changed(tmp_path, path, other_format)])) == []


def test_the_gates_of_the_demos_key_encoder_grow_with_what_it_takes_over():
    projections, norms = demo_key_parameters(0.99)
    assert (projections.tolerance, norms.tolerance) == pytest.approx((4e-6, 3e-5))
    for momentum, factor in ((0.9, 10), (0.999, 0.2), (0.0, 75)):
        assert demo_key_parameters(momentum)[0].tolerance == pytest.approx(4e-6 * factor)
    assert demo_key_parameters(0.0)[1].tolerance == 3e-4


@pytest.mark.parametrize("changes", [{"world": 4}, {"K": 32}, {"T": "x"}, {"steps_per_epoch": 0}])
def test_settings_that_cannot_be_are_named(tmp_path, changes):
    path = changed(tmp_path, V1, lambda arrays, config: config.update(changes))
    with pytest.raises(InputError, match=r"changed\.npz"):
        verify_files([path])


@pytest.mark.parametrize("cut", [1000, 100_000, -10])
def test_a_truncated_or_damaged_file_is_named(tmp_path, cut):
    path, data = tmp_path / "cut.npz", Path(V1).read_bytes()
    path.write_bytes(data[:cut])
    with pytest.raises(InputError, match=r"cut\.npz is not a trace"):
        verify_files([str(path)])


def test_a_pickled_array_and_a_plain_npy_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", idx_shuffle=np.array([{}], dtype=object))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name in ("pickled.npz", "plain.npy", "absent.npz"):
        with pytest.raises(InputError, match=name):
            verify_files([str(tmp_path / name)])


@pytest.mark.slow
def test_devices_that_do_not_divide_the_groups_are_used_as_far_as_they_do(shared_replay):
    result = verify_files([V1], devices=3)  # two groups
    assert result["ok"]
    assert result["files"][0]["devices"] == 2
    text = io.StringIO()
    print_report(result, text)
    assert "on 2 of 3 devices" in text.getvalue()


@pytest.mark.parametrize("path", [V1, DEMO])
@pytest.mark.parametrize(
    "changes",
    [
        {"width": 10_000},
        {"width": 2**40},
        {"layers": [1000, 1, 1, 1000]},
        {"layers": [1] * 30},
        {"size": 100_000},
    ],
)
def test_a_network_that_would_take_all_memory_is_refused(tmp_path, path, changes):
    """Nothing in a file of some kilobytes speaks against it, where it holds no weights."""
    file = changed(tmp_path, path, lambda arrays, config: config.update(changes))
    with pytest.raises(InputError, match=r"changed\.npz is not a trace: setting"):
        read_trace(file)
