"""An encoder and a classifier on it, trained together: their state and their step.

Legend: B images in the global batch, R replicas, b = B / R, C classes.
"""

import tensorflow as tf

from moco_tf.distribute.strategy import own_share, replica_mean, replica_sum
from moco_tf.evaluate import classifier
from moco_tf.training.sgd import sgd_update

SUM = tf.distribute.ReduceOp.SUM
HEAD = "fc"  # name of the classifier's layer


class Finetuner:
    """A network that ends in class scores, in training mode: BatchNorm in groups, as its own.

    Args:
        model: Keras model, [b, S, S, 3] -> [b, C], whose last layer is called "fc", built in
            `strategy.scope()` with contiguous groups and the running statistics "mean".
        strategy: tf.distribute strategy; a batch is spread over its replicas.
        preprocess: uint8 images -> the network's input, on the device.
        momentum, weight_decay: of SGD; the decay is on all parameters.
    """

    def __init__(self, model, *, strategy, preprocess, momentum, weight_decay, dtype="float32"):
        self.model, self.strategy, self.preprocess = model, strategy, preprocess
        self.dtype = dtype
        self.sgd = {"momentum": momentum, "weight_decay": weight_decay}
        trained = model.trainable_variables
        self.parameters = [v.value for v in trained]
        self.of_head = [v.path.split("/")[-2] == HEAD for v in trained]
        with strategy.scope():
            self.buffers = [tf.Variable(tf.zeros_like(p), trainable=False) for p in self.parameters]

    @tf.function
    def train_step(self, images, labels, rates):
        """One step on one batch. Returns its `classifier.batch_sums` before the step.

        Args:
            images, labels: uint8 [B, S, S, 3] and int64 [B]; whole groups on every replica.
            rates: learning rates of backbone and classifier, [2].
        """
        rates = tf.cast(rates, self.dtype)
        result = self.strategy.run(self._replica_step, args=(images, labels))
        gradients, statistics, sums = result
        # Each replica's loss is divided by the whole batch: gradients are summed.
        gradients = self.strategy.extended.batch_reduce_to(
            SUM, list(zip(gradients, self.parameters, strict=True))
        )
        for parameter, buffer, gradient, of_head in zip(
            self.parameters, self.buffers, gradients, self.of_head, strict=True
        ):
            self.strategy.extended.update(
                parameter, self._update, args=(buffer, gradient, rates[int(of_head)])
            )
        for variable, value in zip(self.model.non_trainable_variables, statistics, strict=True):
            variable.value.assign(replica_mean(self.strategy, value))
        return {name: replica_sum(self.strategy, value) for name, value in sums.items()}

    @tf.function
    def evaluate_step(self, images, labels):
        """Returns the `classifier.batch_sums` of one batch; R divides B, label -1 fills up."""
        sums = self.strategy.run(self._replica_sums, args=(images, labels))
        return {name: replica_sum(self.strategy, value) for name, value in sums.items()}

    def _replica_step(self, images, labels):
        count = labels.shape[0]
        images, labels = own_share(images, labels)
        parameters = [tf.identity(p) for p in self.parameters]
        statistics = [tf.identity(v.value) for v in self.model.non_trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            output, statistics = self.model.stateless_call(
                parameters, statistics, self.preprocess(images), training=True
            )
            logits = tf.cast(output, self.dtype)[None]  # [1, b, C]
            loss = tf.reduce_sum(classifier.cross_entropy(logits, labels)) / count
        sums = classifier.batch_sums(logits, labels)
        return tape.gradient(loss, parameters), statistics, sums

    def _replica_sums(self, images, labels):
        images, labels = own_share(images, labels)
        logits = tf.cast(self.model(self.preprocess(images), training=False), self.dtype)
        return classifier.batch_sums(logits[None], labels)

    def _update(self, parameter, buffer, gradient, rate):
        new, new_buffer = sgd_update(parameter, buffer, gradient, rate, **self.sgd)
        buffer.assign(new_buffer)
        parameter.assign(new)

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a step changes, by name; the network as "query_encoder/...", so that it
        can be read as one."""
        names = ["/".join(v.path.split("/")[-2:]) for v in self.model.trainable_variables]
        state = {
            "query_encoder/" + "/".join(v.path.split("/")[-2:]): v.value
            for v in self.model.variables
        }
        return state | {f"momentum/{n}": b for n, b in zip(names, self.buffers, strict=True)}
