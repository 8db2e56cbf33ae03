"""The linear classifiers: equal to the recorded official run, to a naive twin, to each other."""

import json

import numpy as np
import pytest
import tensorflow as tf
from support.naive_classifier import naive_steps

from moco_tf.evaluate import classifier
from moco_tf.models.resnet import resnet
from moco_tf.models.torch_names import from_torch, torch_name
from moco_tf.training.schedules import learning_rate


def decode(images):
    """Recorded uint8 NCHW images as the network's input, NHWC."""
    return ((images.astype(np.float32) - 128) / 64).transpose(0, 2, 3, 1)


def recorded_backbone(z, settings, dtype):
    """Our ResNet with the recorded weights."""
    encoder = resnet(
        block=settings["block"],
        blocks=tuple(settings["layers"]),
        image_size=settings["size"],
        width=settings["width"],
        stem="imagenet",
        head="linear",
        dim=2,
        group_size=2,
        group_layout="contiguous",
        running_statistics="first_group",
        dtype=dtype,
    )
    names = {torch_name("/".join(v.path.split("/")[-2:])): v for v in encoder.backbone.variables}
    recorded = {n.removeprefix("backbone/") for n in z.files if n.startswith("backbone/")}
    assert set(names) == recorded
    for name, variable in names.items():
        variable.assign(from_torch(z[f"backbone/{name}"]))
    return encoder.backbone


def step(state, features, labels, rates):
    """One step on (kernels, biases, and their buffers); returns the new state, losses, logits."""
    kernels, biases, *buffers = state
    logits = classifier.head_logits(features, kernels, biases)
    losses = tf.reduce_mean(classifier.cross_entropy(logits, labels), axis=1)
    slopes = classifier.gradients(features, logits, labels, len(labels))
    new = [
        classifier.update(*values, rates)
        for values in zip((kernels, biases), buffers, slopes, strict=True)
    ]
    return [new[0][0], new[1][0], new[0][1], new[1][1]], losses.numpy(), logits.numpy()


def assert_near(ours, recorded, tolerance):
    """Relative to the largest recorded value."""
    assert np.shape(ours) == np.shape(recorded)
    error = np.abs(np.asarray(ours, np.float64) - recorded).max() / np.abs(recorded).max()
    assert error <= tolerance, error


@pytest.mark.golden
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 2e-7)])
def test_recorded_official_run(golden, monkeypatch, dtype, tolerance):
    """Features, logits, losses, accuracies and trained weights; both gates are far below 1e-4."""
    z = golden("lincls")
    meta = json.loads(str(z["meta_json"]))
    for name in ("momentum", "weight_decay"):
        monkeypatch.setattr(classifier, name.upper(), meta[name])
    backbone = recorded_backbone(z, meta["backbone"], dtype)
    before = [v.numpy() for v in backbone.variables]
    kernel = z["fc_weight_init"].T[None].astype(dtype)
    bias = z["fc_bias_init"][None].astype(dtype)
    state = [tf.constant(a) for a in (kernel, bias, 0 * kernel, 0 * bias)]
    if dtype == "float64":
        wanted = {"loss": z["fp64/loss"], "fc_weight": z["fp64/fc_weight"]}
    else:
        wanted = {name: z[name] for name in ("loss", "fc_weight", "fc_bias", "logits", "features")}
    wanted |= {name: z[name] for name in ("acc1", "acc5")}
    found = {name: [] for name in wanted}
    for number, (images, labels) in enumerate(zip(z["images"], z["labels"], strict=True)):
        rate = learning_rate(
            number, steps_per_epoch=1, epochs=len(z["lr"]), base=meta["lr"], schedule="step",
            milestones=meta["schedule"], drop=0.1, unit="epoch", first_epoch=0,
        )  # fmt: skip
        assert rate == pytest.approx(z["lr"][number], rel=1e-12)
        features = backbone(decode(images).astype(dtype), training=False)
        state, losses, logits = step(state, features, labels, tf.constant([rate], dtype))
        values = {
            "features": features,
            "logits": logits[0],
            "loss": losses[0],
            "fc_weight": state[0][0].numpy().T,
            "fc_bias": state[1][0],
        } | {
            f"acc{k}": 100 * np.mean(classifier.is_correct(tf.constant(logits), labels, k))
            for k in (1, 5)
        }
        for name, values_so_far in found.items():
            values_so_far.append(np.asarray(values[name]))
    for name, recorded in wanted.items():
        assert_near(np.stack(found[name]), recorded, tolerance)
    features = backbone(decode(z["val_images"]).astype(dtype), training=False)
    logits = classifier.head_logits(features, *state[:2])
    prefix = "fp64/" if dtype == "float64" else ""
    assert_near(logits[0], z[prefix + "val_logits"], tolerance)
    losses = classifier.cross_entropy(logits, z["val_labels"])
    assert np.mean(losses) == pytest.approx(float(z["val_loss"]), rel=1e-5)
    right = [100 * np.mean(classifier.is_correct(logits, z["val_labels"], k)) for k in (1, 5)]
    assert right == pytest.approx(z["val_acc1_acc5"].tolist(), abs=1e-4)
    for variable, value in zip(backbone.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_three_steps_of_three_heads_equal_the_naive_twin_of_each():
    """The rate drops before the last step, whose batch is filled up with two labels of -1."""
    generator = np.random.default_rng(0)
    batches = [(generator.normal(size=(6, 5)), generator.integers(0, 4, 6)) for _ in range(3)]
    batches[2][1][4:] = -1
    rates, drops = np.array([3.0, 1.0, 0.1]), [1, 1, 0.1]
    kernels, biases = generator.normal(size=(3, 5, 4)), generator.normal(size=(3, 4))
    state = [tf.constant(a) for a in (kernels, biases, 0 * kernels, 0 * biases)]
    losses = []
    for (features, labels), drop in zip(batches, drops, strict=True):
        count = np.sum(labels >= 0)
        logits = classifier.head_logits(features, state[0], state[1])
        losses.append(np.sum(classifier.cross_entropy(logits, labels), axis=1) / count)
        slopes = classifier.gradients(features, logits, labels, count)
        for part in (0, 1):
            state[part], state[2 + part] = classifier.update(
                state[part], state[2 + part], slopes[part], tf.constant(rates * drop)
            )
    for head in range(3):
        kernel, bias, wanted = naive_steps(
            kernels[head], biases[head], batches, [rates[head] * drop for drop in drops]
        )
        np.testing.assert_allclose(state[0][head], kernel, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state[1][head], bias, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(np.stack(losses)[:, head], wanted, rtol=1e-12)


def test_gradients_are_those_of_the_tape_and_shares_add_up():
    generator = np.random.default_rng(1)
    features, labels = tf.constant(generator.normal(size=(6, 5))), np.array([0, 3, 1, 1, 2, -1])
    kernels = tf.constant(generator.normal(size=(2, 5, 4)))
    biases = tf.constant(generator.normal(size=(2, 4)))
    with tf.GradientTape() as tape:
        tape.watch([kernels, biases])
        logits = classifier.head_logits(features, kernels, biases)
        loss = tf.reduce_sum(classifier.cross_entropy(logits, labels)) / 5
    wanted = tape.gradient(loss, [kernels, biases])
    whole = classifier.gradients(features, logits, labels, 5)
    first, second = (
        classifier.gradients(features[rows], logits[:, rows], labels[rows], 5)
        for rows in (slice(0, 3), slice(3, 6))
    )
    for by_tape, by_formula, one, other in zip(wanted, whole, first, second, strict=True):
        np.testing.assert_allclose(by_formula, by_tape, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(one + other, by_tape, rtol=1e-12, atol=1e-14)


def test_zero_weights_give_the_loss_of_guessing():
    logits = classifier.head_logits(tf.ones([3, 2]), tf.zeros([1, 2, 7]), tf.zeros([1, 7]))
    losses = classifier.cross_entropy(logits, np.array([0, 6, -1]))
    np.testing.assert_allclose(losses, [[np.log(7), np.log(7), 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "k", "right"),
    [
        ([1, 2, 3], 2, 1, True),
        ([1, 2, 3], 1, 1, False),
        ([1, 2, 3], 1, 2, True),
        ([0, 0, 0], 0, 1, True),  # of equal ones the first
        ([0, 0, 0], 1, 1, False),
        ([0, 0, 0], 1, 2, True),
        ([0, 0, 0], 2, 3, True),
        ([1, 2, 3], -1, 3, False),  # fills up a batch
        ([np.nan, np.nan, np.nan], 0, 3, False),
        ([np.inf, 2, 3], 0, 1, False),
    ],
)
def test_what_counts_as_correct(logits, label, k, right):
    logits = tf.constant([[logits]], tf.float32)
    assert classifier.is_correct(logits, np.array([label]), k).numpy().tolist() == [[right]]


def test_initial_kernel_is_normal_with_deviation_a_hundredth_and_repeats():
    kernel = classifier.initial_kernel(300, 100, seed=4).numpy()
    assert kernel.shape == (300, 100) and kernel.dtype == np.float32
    assert kernel.std() == pytest.approx(0.01, rel=0.02)
    assert abs(kernel.mean()) < 3e-4
    assert (np.abs(kernel) > 0.02).mean() == pytest.approx(0.0455, abs=0.005)  # not uniform
    np.testing.assert_array_equal(kernel, classifier.initial_kernel(300, 100, seed=4))
    assert not np.array_equal(kernel, classifier.initial_kernel(300, 100, seed=5))


def test_the_best_loss_is_the_smallest_finite_mean():
    sums = {"loss": tf.constant([8.0, np.nan, 6.0, np.inf]), "images": tf.constant(4.0)}
    assert float(classifier.best_loss(sums)) == 1.5
    sums["loss"] = tf.constant([np.nan, np.inf])
    assert np.isnan(float(classifier.best_loss(sums)))
