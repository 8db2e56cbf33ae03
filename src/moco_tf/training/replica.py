"""One replica's share of a step: its images in microbatches, one after another.

Legend: B images in the global batch, M microbatches of a replica, b = M c images of a replica,
c in each microbatch.
"""

import contextlib
from itertools import compress

import tensorflow as tf

from moco_tf.distribute.collectives import broadcast_from_first, gather_rows, mean_over_replicas
from moco_tf.training.accumulation import in_microbatches, pick
from moco_tf.training.finite import nonfinite


class Encoding:
    """A network in training mode: called on images, it returns features and moves statistics on."""

    def __init__(self, network, parameters, statistics, preprocess):
        self._network, self._parameters, self._preprocess = network, parameters, preprocess
        self.statistics, self.inputs = statistics, []

    def __call__(self, images):
        self.inputs.append(self._preprocess(images))
        features, self.statistics = self._network.call(
            self._parameters, self.statistics, self.inputs[-1], training=True
        )
        return features

    def floating_inputs(self):
        """{"images": what went in}, without what is always finite; nothing if that is all of it."""
        floating = [one for one in tf.nest.flatten(self.inputs) if one.dtype.is_floating]
        return {"images": floating} if floating else {}


class Replica:
    """One replica's share of one step, its images in microbatches, one after another."""

    def __init__(self, envelope):
        self._envelope = envelope
        self._context = tf.distribute.get_replica_context()
        self.rows = tf.gather(envelope.rows, self._context.replica_id_in_sync_group)  # [M, c]
        self._nonfinite = nonfinite()

    def encode(self, compiled, network, images, order, statistics=None):
        """Features of rows `order[rows]` of the batch, without a gradient: [b, ...].

        Args:
            compiled: of `compiled_forward`.
            images: [B, ...], or a nest of such tensors.
            order: int [B]; none: that of the batch, so that no image leaves its worker.
            statistics: to start from; none: the network's.

        Returns:
            Features of this replica, and its running statistics after them.
        """
        env = self._envelope
        parameters = _read(network.parameters)
        before = _read(network.statistics) if statistics is None else statistics
        if env.workers > 1 and order is not None:  # each has the images of its own replicas
            with_all = pick(images, self._own(tf.reshape(self.rows, [-1])))
            images, order = gather_rows(with_all), tf.gather(env.position, order)

        def one(rows):
            return compiled(parameters, network.drawing_for(before, rows[0]), chosen(rows))

        def chosen(rows):
            if order is None:
                return self._of_rows(images, rows)
            with self._beside_the_images():
                return pick(images, tf.gather(order, rows))

        how = {"features": "rows", "statistics": env.statistics_rule, "nonfinite": "sum"}
        result = in_microbatches(one, self.rows, how)
        self._nonfinite += result["nonfinite"]
        return result["features"], network.drawn_before(result["statistics"], self.rows[0, 0])

    def gradients(self, compiled, images, by_row, *constants, keep=None):
        """Gradients of this replica's share of the loss, and what the loss returned.

        Args:
            compiled: of `compiled_loss`.
            images, by_row: lists of [B, ...]; of each microbatch the function gets its rows.
            constants: tensors that the function gets as they are.
            keep: what of the function's other results to return: name -> what microbatches make
                together, see `in_microbatches`.

        Returns:
            A dict of gradients, statistics (agreed on), scalars (means over the replicas, with
            "nonfinite"), and each of `keep`.
        """
        env, network = self._envelope, self._envelope.network
        parameters, statistics = _read(network.parameters), _read(network.statistics)
        loss_scale = tf.convert_to_tensor(env.optimizer.loss_scale)

        def one(rows):
            mine = [self._of_rows(each, rows) for each in images]
            others = by_row if env.microbatches == 1 else [pick(each, rows) for each in by_row]
            drawing = network.drawing_for(statistics, rows[0])
            return compiled(parameters, drawing, loss_scale, mine, others, *constants)

        how = {"gradients": "sum", "statistics": env.statistics_rule, "scalars": "mean"}
        how |= {"nonfinite": "sum"} | (keep or {})
        result = in_microbatches(one, self.rows, how)
        scalars = result["scalars"] | {"nonfinite": result["nonfinite"] + self._nonfinite}
        return {
            "gradients": result["gradients"],
            "statistics": self.agree(network, result["statistics"]),
            "scalars": mean_over_replicas(scalars),
        } | {name: result[name] for name in keep or ()}

    def agree(self, network, statistics):
        """The statistics of `network` that all replicas are to keep."""
        rule, own = self._envelope.statistics_rule, network.running
        agreed = {"first": broadcast_from_first, "mean": mean_over_replicas}[rule](
            list(compress(statistics, own))
        )
        others = iter(agreed)  # the replicas have the rest alike
        return [next(others) if r else v for v, r in zip(statistics, own, strict=True)]

    def gather(self, features):
        """The features of all replicas in their order, [b, ...] -> [B, ...]."""
        if self._envelope.replicas == 1:
            return features
        gathered = self._context.all_gather(features, axis=0)
        return tf.ensure_shape(gathered, [self._envelope.rows.size, *features.shape[1:]])

    def _of_rows(self, images, rows):
        """The images of a microbatch, in the order of the batch."""
        if self._envelope.microbatches == 1:
            return images
        with self._beside_the_images():
            return pick(images, self._own(rows))

    def _own(self, rows):
        """Where these rows of the global batch are among the images of this worker."""
        env = self._envelope
        return rows if env.workers == 1 else tf.gather(env.position, rows) - env.first_position

    def _beside_the_images(self):
        """Where rows are picked: several replicas get theirs from the host, not the whole batch."""
        one_host = self._envelope.replicas > 1 and self._envelope.workers == 1
        return tf.device("CPU:0") if one_host else contextlib.nullcontext()


def _read(variables):
    """Their values in this replica: tensors that are called with, not variables."""
    return [tf.convert_to_tensor(variable) for variable in variables]
