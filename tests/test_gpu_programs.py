"""`benchmarks/gpu`: a training step under JAX computes what it computes under TensorFlow."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.runs import SHALLOW

pytest.importorskip("jax", reason="JAX is absent (pip install jax)")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "gpu"))

import export as exporting
import jax
import program as programs
import train as training
from lowering import lower

from moco_tf.data.augment.views import DRAWS
from moco_tf.data.view_making import DeviceImages
from moco_tf.evaluate.features import embedding
from moco_tf.evaluate.knn import knn_top1
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models import ENCODERS

pytestmark = pytest.mark.slow
BATCH, SIDE, IMAGES, STEPS = 8, 16, 16, 3
TINY = {"encoder": "resnet18", "stem": "small", "width": 8, "image_size": SIDE, "dim": 8,
        "batch_size": BATCH, "group_size": 4, "queue_size": 20, "augment_on": "auto"}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _shallow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "resnet18", SHALLOW)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("programs")
    jax.config.update("jax_compilation_cache_dir", str(made / "cache"))
    return made


@pytest.fixture(scope="module")
def demo(folder):
    """The demo, tiny: its config, method and pixels; its programs are in `folder`."""
    config = exporting.configured("cifar10-demo", "float32", TINY | {"epochs": 2})
    method, held = exporting.demo_method(config, IMAGES)
    facts = {
        "settings": {"images": IMAGES, "batch_size": BATCH},
        "rates": [0.06, 0.03],
        "knn": {"k": 5, "temperature": 0.1},
        "draws": DRAWS,
        "start": exporting.start(exporting.variables(method)),
    }
    exporting.demo_program(config, method, held).write(folder / "demo", **facts)
    features = exporting.features_program(config, method)
    features.write(folder / "features", batch_size=exporting.FEATURE_BATCH)
    rng = np.random.default_rng(1)
    images = {"train": rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)}
    images |= {"test": images["train"][:5], "train_labels": np.arange(IMAGES) % 3}
    images["test_labels"] = images["train_labels"][:5]
    np.savez(folder / f"images-{IMAGES}.npz", **images)
    held.assign(images["train"])
    return config, method, images


def both(config, method, call, batches, others):
    """(state, scalars) after the batches: of the program under JAX, and of the method itself."""
    variables = exporting.variables(method)
    state = {name: variable.numpy() for name, variable in variables.items()}
    step, rate = jax.jit(programs.stepping(call, state)), np.float32(0.06)

    @tf.function(autograph=False)
    def original(view1, view2, number):
        order = random_permutation(config.seed, number, 1, config.batch_size)
        return method.train_step(view1, view2, order, tf.constant(rate))[0]

    for number, (given, views) in enumerate(batches):
        scheduled = {"number": np.int64(number), "rate": rate}
        state, scalars = step(state, given | scheduled | others)
        wanted = original(*views, tf.constant(number, tf.int64))
    arrays = {name: variable.numpy() for name, variable in variables.items()}
    return (state | scalars), arrays | {name: value.numpy() for name, value in wanted.items()}


def test_a_step_on_views_is_the_same(folder):
    config = exporting.configured("moco-v2", "float64", TINY | {"augment_on": "host"})
    method = exporting.build_method(config, exporting.build_strategy(config))
    exporting.step_program(config, method).write(folder / "step")
    call, facts = programs.load(folder, "step")
    assert facts["results"][:7] == sorted(facts["results"][:7])
    rng, batches = np.random.default_rng(0), []
    for _ in range(STEPS):
        views = rng.integers(0, 256, (2, BATCH, SIDE, SIDE, 3), np.uint8)
        batches.append(({"view1": views[0], "view2": views[1]}, tuple(map(tf.constant, views))))
    found, wanted = both(config, method, call, batches, {})
    assert found.keys() == wanted.keys()
    assert wanted["queue_pointer"] == STEPS * BATCH % 20
    for name, value in wanted.items():
        # Images are normalised in float32, what follows is float64.
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_views_differ_in_a_few_grey_levels():
    config = exporting.configured("cifar10-demo", "float32", TINY | {"image_size": 32})
    rng = np.random.default_rng(1)
    pixels, draws = rng.integers(0, 256, (64, 32, 32, 3), np.uint8), rng.random((64, DRAWS))
    held, places = tf.Variable(pixels), np.arange(64)
    making = DeviceImages(config.views, 32, lambda: held)
    specs = {"places": tf.TensorSpec([64], tf.int64), "draws": tf.TensorSpec([64, DRAWS])}

    def views(places, draws):
        return {"views": making.on_device((places, draws))}

    program, draws = lower(views, specs, {"pixels": held}), draws.astype(np.float32)
    call = jax.export.deserialize(bytearray(program.blob)).call
    found = np.asarray(jax.jit(call)(places, draws, pixels)[0]).astype(int)
    wanted = views(tf.constant(places), tf.constant(draws))["views"].numpy()
    change = np.abs(found - wanted)  # XLA joins products and sums; what is truncated then jumps
    assert (change > 0).mean() < 0.005 and change.max() <= 16
    assert np.abs(wanted - pixels.astype(int)).mean() > 20


def test_features_and_their_neighbours_are_the_same(folder, demo):
    config, method, images = demo
    rng = np.random.default_rng(3)
    bank, queries = rng.normal(size=(200, 6)), rng.normal(size=(70, 6))
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    labels = rng.integers(0, 4, 200), rng.integers(0, 4, 70)
    votes = {"k": 9, "temperature": 0.1}
    mine = training.vote(bank, labels[0], queries, labels[1], **votes)
    assert mine == pytest.approx(knn_top1(bank, labels[0], queries, labels[1], classes=4, **votes))
    call, facts = programs.load(folder, "features")
    variables = exporting.variables(method)
    state = {n: variables[n].numpy() for n in facts["arguments"] if n != "images"}
    padded = np.resize(images["train"], (exporting.FEATURE_BATCH, SIDE, SIDE, 3))
    found = call(state | {"images": padded})["features"][:IMAGES]
    embed = embedding(
        method.query.encoder, features=config.knn_features, normalization=config.normalization
    )
    wanted = tf.math.l2_normalize(embed(tf.constant(images["train"])), axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_first_state_is_drawn_as_ours_is(demo):
    variables = exporting.variables(demo[1])
    kinds = exporting.start({"a": tf.Variable([1.0, 2.0]), "b": tf.Variable([1.0, 2.0])})
    assert kinds["b"]["same_as"] == "a"
    fresh = {"conv": tf.Variable(np.random.default_rng(0).normal(0, 0.3, 9999), dtype=tf.float32),
             "fc": tf.Variable(np.random.default_rng(0).uniform(-0.2, 0.2, 9999)),
             "bn": tf.Variable(np.ones(4)), "queue": variables["queue"]}  # fmt: skip
    state = programs.drawn(json.loads(json.dumps(exporting.start(fresh))), seed=1)
    assert state["conv"].std() == pytest.approx(0.3, rel=0.05)
    assert np.abs(state["conv"]).max() > 0.9 and np.abs(state["fc"]).max() < 0.21
    assert np.abs(state["fc"]).max() == pytest.approx(0.2, rel=0.02)
    assert (state["bn"] == 1).all() and state["bn"].dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(state["queue"], axis=1), 1, rtol=1e-5)
    assert not np.array_equal(state["queue"], programs.drawn(exporting.start(fresh), 2)["queue"])


def test_a_training_goes_on_where_it_was(folder, demo):
    rows, path = [], folder / "checkpoint.npz"
    options = {"folder": folder, "seed": 0, "knn_every": 1, "seconds": 1e9, "epochs": None}

    def run(**changes):
        training.train(SimpleNamespace(**options | changes), lambda **row: rows.append(row))
        with np.load(path) as arrays:
            return dict(arrays)

    whole = run()
    path.unlink()
    assert run(epochs=1)["step"] == 2
    assert run(seconds=0)["step"] == 2  # no time for an epoch
    parts = run()
    assert whole.keys() == parts.keys() and whole["step"] == 4
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    knn = [row["knn_top1"] for row in rows if "knn_top1" in row]
    assert len(knn) == 3 + 2 + 1 and all(0 <= one <= 100 for one in knn)
    assert [row["epoch"] for row in rows if "loss" in row] == [1, 2, 1, 2]


def test_what_cannot_be_read_is_named_in_a_line(tmp_path):
    with pytest.raises(SystemExit, match=r"demo\.json cannot be read: No such file"):
        programs.load(tmp_path, "demo")
    (tmp_path / "demo.json").write_text("{}")
    (tmp_path / "demo.jax.xz").write_bytes(b"no archive")
    with pytest.raises(SystemExit, match=r"JAX .* cannot read demo\.jax\.xz"):
        programs.load(tmp_path, "demo")
