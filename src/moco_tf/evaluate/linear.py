"""Linear classifiers on a frozen backbone, on one device or several: their state and their step.

Legend: B images in the global batch, R replicas, H classifiers ("heads"), D features, C classes.
"""

import tensorflow as tf

from moco_tf.distribute.strategy import own_share, replica_sum
from moco_tf.evaluate import classifier
from moco_tf.models.array_names import named_arrays
from moco_tf.runs import checkpoint_file
from moco_tf.training.optimizer import Optimizer, UpdateRule


class LinearProbe:
    """Heads on a backbone that is never in training mode, so its statistics stay as they are.

    Args:
        backbone: Keras model, [b, S, S, 3] -> [b, D], built in `strategy.scope()`.
        strategy: tf.distribute strategy; a batch is spread over its replicas.
        heads, classes: H and C.
        seed: of the first weights, equal for all heads.
        preprocess: uint8 images -> the backbone's input, on the device.
    """

    def __init__(self, backbone, *, strategy, heads, classes, seed, preprocess):
        self.backbone, self.strategy, self.preprocess = backbone, strategy, preprocess
        self.tensor_names = ["the losses of all classifiers"]
        backbone.trainable = False
        features = backbone.output_shape[-1]
        kernel = classifier.initial_kernel(features, classes, seed)
        with strategy.scope():
            self.kernels = tf.Variable(tf.tile(kernel[None], [heads, 1, 1]))  # [H, D, C]
            self.biases = tf.Variable(tf.zeros([heads, classes]))  # [H, C]
        self.optimizer = Optimizer(
            [self.kernels, self.biases],
            ["fc/kernel", "fc/bias"],
            strategy=strategy,
            rule=UpdateRule(classifier.update),
        )

    @tf.function(autograph=False)
    def train_step(self, images, labels, rates):
        """One step of every head on one batch.

        Returns its `classifier.batch_sums` before the step, "step_loss" (see `best_loss`), and
        "first_nonfinite": 1 where no head has a finite loss any more, else 0.

        Args:
            images, labels: uint8 [B, S, S, 3] and int64 [B]; R divides B, label -1 fills up.
            rates: learning rates, [H].
        """
        count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32))
        slopes, sums = self.strategy.run(self._replica_step, args=(images, labels, count))
        # Each replica's loss is divided by the count of the whole batch: gradients are summed.
        self.optimizer.apply(self.optimizer.sum_over_replicas(slopes), rates)
        sums = {name: replica_sum(self.strategy, value) for name, value in sums.items()}
        loss = classifier.best_loss(sums)
        broken = tf.cast(tf.math.logical_not(tf.math.is_finite(loss)), tf.int64)
        return sums | {"step_loss": loss, "first_nonfinite": broken}

    @tf.function(autograph=False)
    def evaluate_step(self, images, labels):
        """Returns the `classifier.batch_sums` of one batch."""
        sums = self.strategy.run(self._replica_forward, args=(images, labels))[-1]
        return {name: replica_sum(self.strategy, value) for name, value in sums.items()}

    def _replica_step(self, images, labels, count):
        features, labels, logits, sums = self._replica_forward(images, labels)
        return classifier.gradients(features, logits, labels, count), sums

    def _replica_forward(self, images, labels):
        images, labels = own_share(images, labels)
        features = self.backbone(self.preprocess(images), training=False)  # [b, D]
        logits = classifier.head_logits(features, self.kernels, self.biases)  # [H, b, C]
        return features, labels, logits, classifier.batch_sums(logits, labels)

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name."""
        return {"fc/kernel": self.kernels, "fc/bias": self.biases} | self.optimizer.state()


def backbone_digest(backbone) -> str:
    """SHA-256 of all arrays of a backbone, statistics included."""
    return checkpoint_file.digest({name: v.value.numpy() for name, v in named_arrays(backbone)})
