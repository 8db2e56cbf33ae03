"""An encoder and a classifier on it, trained together: their state and their step.

Legend: B images in the global batch, R replicas, c of a microbatch, C classes.
"""

from functools import partial

import tensorflow as tf

from moco_tf.distribute.strategy import own_share, replica_sum
from moco_tf.evaluate import classifier
from moco_tf.evaluate.mixing import mixed_images, mixed_labels


class Finetuner:
    """A network that ends in class scores, in training mode: BatchNorm in groups, as its own.

    Args:
        envelope: `StepEnvelope` that trains the network, [b, S, S, 3] -> [b, C], whose last layer
            is the classifier.
        smoothing: share of each label that all classes get alike, where batches are mixed; none:
            they are not.
        scales: factor of the rate of each parameter; none: 1.
    """

    def __init__(self, envelope, *, smoothing=None, scales=None):
        self.envelope, self.network = envelope, envelope.network
        self.model, self.strategy = self.network.model, envelope.strategy
        self.tensor_names = envelope.tensor_names
        head = self.model.layers[-1].name
        self.of_head = [name.split("/")[0] == head for name in self.network.names]
        self.scales = scales or [None] * len(self.of_head)
        mixed = None if smoothing is None else partial(self._mixed_loss, smoothing=smoothing)
        self._compiled_loss = envelope.compiled_loss(mixed or self._loss)

    @tf.function(autograph=False)
    def train_step(self, images, labels, rates, mix=None):
        """One step on one batch.

        Returns its `classifier.batch_sums` before the step, "step_loss" (their mean), and
        "first_nonfinite", which counts `tensor_names`.

        Args:
            images, labels: uint8 [B, S, S, 3] and int64 [B]; whole groups on every replica.
            rates: learning rates of backbone and classifier, [2].
            mix: of `draw_mix`, where batches are mixed.
        """
        env, images, labels, constants = self.envelope, [images], [labels], []
        if mix is not None:
            images, labels = ([a, tf.reverse(a, [0])] for (a,) in (images, labels))
            constants = [mix]
        result = env.run(
            lambda replica: replica.gradients(
                self._compiled_loss, images, labels, *constants, keep={"sums": "sum"}
            )
        )
        gradients = env.optimizer.sum_over_replicas(result["gradients"])
        scalars = env.logged(result, gradients)
        own = [rates[int(of_head)] for of_head in self.of_head]
        scaled = zip(own, self.scales, strict=True)
        env.optimizer.apply(gradients, [r if s is None else r * s for r, s in scaled])
        env.keep_statistics(self.network, result["statistics"])
        sums = {name: replica_sum(self.strategy, value) for name, value in result["sums"].items()}
        return sums | scalars | {"step_loss": classifier.best_loss(sums)}

    @tf.function(autograph=False)
    def evaluate_step(self, images, labels):
        """Returns the `classifier.batch_sums` of one batch; R divides B, label -1 fills up."""
        sums = self.strategy.run(self._replica_sums, args=(images, labels))
        return {name: replica_sum(self.strategy, value) for name, value in sums.items()}

    def _loss(self, encode, images, labels):
        """The share of the mean cross-entropy that the images of a microbatch have."""
        logits = tf.cast(encode(images[0]), self.envelope.dtype)[None]  # [1, c, C]
        losses = classifier.cross_entropy(logits, labels[0])
        others = {"sums": classifier.batch_sums(logits, labels[0])}
        return tf.reduce_sum(losses) / self.envelope.rows.size, others, {}

    def _mixed_loss(self, encode, images, labels, mix, *, smoothing):
        """`_loss` of mixed images; an accuracy counts the label with the larger share."""
        logits = tf.cast(
            encode(mixed_images(images[0], images[1], mix)), self.envelope.dtype
        )  # [c, C]
        wanted = mixed_labels(labels[0], labels[1], mix, logits.shape[-1], smoothing)
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.cast(wanted, logits.dtype), logits)
        larger = tf.where(mix[1] >= 0.5, *labels)
        sums = classifier.batch_sums(logits[None], larger) | {"loss": tf.reduce_sum(losses)[None]}
        return tf.reduce_sum(losses) / self.envelope.rows.size, {"sums": sums}, {}

    def _replica_sums(self, images, labels):
        images, labels = own_share(images, labels)
        output = self.model(self.envelope.preprocess(images), training=False)
        return classifier.batch_sums(tf.cast(output, self.envelope.dtype)[None], labels)

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name; the network as "query_encoder/...", so that it
        can be read as one."""
        return self.network.state("query_encoder") | self.envelope.optimizer.state()
