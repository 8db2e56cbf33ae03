"""Where in a step numbers stop being finite: the first place is told, on any number of devices."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.steps import BATCH, build, views

from moco_tf.methods.shuffle import random_permutation
from moco_tf.training.finite import first_nonfinite, names_of_tensors, nonfinite

NAN = np.float32(np.nan)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_place_in_the_order_of_the_step(bad):
    good, wrong = tf.ones((2, 3)), tf.constant([1.0, bad])
    names = ["", *names_of_tensors(["a", "b"])]

    def told(parameters=(good, good), gradients=(good, good), **values):
        return names[int(first_nonfinite(nonfinite(**values), parameters, gradients))]

    assert told() == told(images=[good, good], keys=good, queries=good, loss=good) == ""
    assert told(gradients=(good, wrong)) == "the gradient of b"
    assert told(gradients=(wrong, wrong)) == "the gradient of a"
    assert told(loss=wrong, gradients=(wrong, wrong)) == "the loss"
    assert told(logits=wrong, loss=wrong) == "the logits"
    assert told(queries=wrong, logits=wrong) == "the features of the queries"
    assert told(keys=wrong, queries=wrong) == "the features of the keys"
    assert told(parameters=(good, wrong), keys=wrong) == "the parameter b"
    assert told(images=[good, wrong], parameters=(wrong, wrong)) == "the normalised images"


def test_counts_of_parts_are_added_up():
    parts = nonfinite(keys=NAN) + nonfinite(images=NAN, keys=NAN) + nonfinite(loss=1.0)
    np.testing.assert_array_equal(parts, [1, 2, 0, 0, 0])
    assert int(first_nonfinite(parts, [1.0], [NAN])) == 1


@pytest.fixture(
    scope="module", params=[(1, 2), (2, 1)], ids=["1 device, 2 microbatches", "2 devices"]
)
def compiled(request):
    """A method whose step is compiled, and variables that make things in it NaN when they are."""
    devices, microbatches = request.param
    on_images, on_gradient = tf.Variable(0.0), tf.Variable(0.0)
    method = build(
        devices,
        accumulation_steps=microbatches,
        key_momentum=1.0,
        preprocess=lambda images: images + on_images,
    )
    compare = method._compiled_loss

    def compare_then_spoil(*arguments):
        result = compare(*arguments)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        spoiled = tf.where(replica == devices - 1, on_gradient, 0.0)  # on one of them alone
        result["gradients"][3] += spoiled
        return result

    method._compiled_loss = compare_then_spoil
    step = tf.function(method.train_step, autograph=False)
    order = random_permutation(0, 0, 1, BATCH)

    def told(**changes):
        before = {name: tf.identity(variable) for name, variable in method.state().items()}
        view1, view2 = (changes.get(f"view{n}", view) for n, view in enumerate(views(0), 1))
        scalars, _ = step(view1, view2, order, tf.constant(0.1))
        for name, variable in method.state().items():
            variable.assign(before[name])
        place = int(scalars["first_nonfinite"])
        return method.envelope.tensor_names[place - 1] if place else ""

    names = SimpleNamespace(told=told, method=method, images=on_images, gradient=on_gradient)
    names.parameters = [v.path for v in method.query.model.trainable_variables]
    return names


class TestStep:
    """Each of them poisons one thing, and puts it right again."""

    @pytest.fixture
    def poisoned(self):
        kept = []

        def poison(variable, value=np.nan):
            kept.append((variable, tf.identity(variable)))
            variable.assign(tf.zeros_like(variable) + value)

        yield poison
        for variable, value in kept:
            variable.assign(value)

    def test_nothing(self, compiled):
        assert compiled.told() == ""

    def test_normalisation(self, compiled, poisoned):
        poisoned(compiled.images)
        assert compiled.told() == "the normalised images"

    @pytest.mark.parametrize("view", ["view1", "view2"])
    def test_one_pixel(self, compiled, view):
        images = next(views(0)).numpy()
        images[-1, 3, 2, 1] = np.inf
        assert compiled.told(**{view: tf.constant(images)}) == "the normalised images"

    def test_parameter(self, compiled, poisoned):
        poisoned(compiled.method.query.parameters[2])
        assert compiled.told() == f"the parameter {compiled.parameters[2]}"

    def test_key_encoder(self, compiled, poisoned):
        poisoned(compiled.method.key.parameters[-1])
        assert compiled.told() == "the features of the keys"

    def test_query_encoder_that_overflows(self, compiled, poisoned):
        poisoned(compiled.method.query.parameters[-2], 3e38)
        assert compiled.told() == "the features of the queries"

    def test_queue(self, compiled, poisoned):
        poisoned(compiled.method.queue)
        assert compiled.told() == "the logits"

    def test_gradient(self, compiled, poisoned):
        poisoned(compiled.gradient)
        assert compiled.told() == f"the gradient of {compiled.parameters[3]}"
