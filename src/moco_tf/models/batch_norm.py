"""BatchNorm over groups of a fixed number of images, with PyTorch's running statistics.

The group size, not the number of devices, says which images are normalised together: a batch of 256
in groups of 32 means the same on one device (eight groups inside it) as on eight.

Legend: B images on this device, N images in a group, G = B / N groups, C channels.
"""

from functools import partial

import keras
import tensorflow as tf

from moco_tf.models.array_names import within
from moco_tf.models.global_moments import global_moments, replicas
from moco_tf.names.encoder import ALL

_INITIALIZERS = (
    *("beta_initializer", "gamma_initializer"),
    *("moving_mean_initializer", "moving_variance_initializer"),
)


@keras.saving.register_keras_serializable(package="moco_tf")
class GroupBatchNorm(keras.layers.Layer):
    """Normalises each group of `group_size` images by its own mean and biased variance.

    In inference mode it is plain BatchNorm with the running statistics. The running variance is
    updated with the unbiased variance, n / (n - 1), as PyTorch does.

    Args:
        group_size: images in a group; must divide the batch on a device. None: one group.
            "all": the images of all replicas are one group; see `global_moments`.
        group_layout: "contiguous" (rows gN to gN + N - 1 are group g) or "interleaved" (row n is in
            group n mod G).
        running_statistics: "first_group" keeps those of group 0 (DistributedDataParallel's
            effect: rank 0's buffers are the ones saved); "mean" averages over the groups.
        momentum: weight of the old running statistics (PyTorch's 0.1 is 0.9 here).
        epsilon: added to the variance.
        axis: of the channels.
        center, scale: whether there is a beta and a gamma.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer:
            as Keras's.

    With `trainable=False` it is in inference mode also in training, as Keras's layer is.

    Source: arXiv:1911.05722 section 3.3; PyTorch's BatchNorm2d for the statistics.
    """

    # What a BatchNormalization hands on to the layer that takes its place.
    KEPT = (
        *("name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale"),
        *_INITIALIZERS,
    )

    def __init__(
        self,
        group_size=None,
        group_layout="contiguous",
        running_statistics="first_group",
        momentum=0.9,
        epsilon=1e-5,
        axis=-1,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.group_size = group_size
        self.group_layout = group_layout
        self.running_statistics = running_statistics
        self.momentum = momentum
        self.epsilon = epsilon
        self.axis, self.center, self.scale = axis, center, scale
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.gamma = self.beta = None

    def build(self, input_shape):
        self.axis %= len(input_shape)
        # Statistics stay in the variables' own precision under mixed precision.
        add = partial(self.add_weight, shape=(input_shape[self.axis],), autocast=False)
        if self.scale:
            self.gamma = add(initializer=self.gamma_initializer, name="gamma")
        if self.center:
            self.beta = add(initializer=self.beta_initializer, name="beta")
        self.moving_mean = add(
            initializer=self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = add(
            initializer=self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    def compute_output_spec(self, inputs, training=None, mask=None):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def call(self, inputs, training=None, mask=None):
        del mask  # what Keras's layer is called with: images have none
        gamma = tf.ones_like(self.moving_mean) if self.gamma is None else self.gamma.value
        beta = tf.zeros_like(self.moving_mean) if self.beta is None else self.beta.value
        if not (training and self.trainable):
            scale = gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
            shift = beta - self.moving_mean * scale
            scale, shift = (self._along_axis(value, inputs) for value in (scale, shift))
            return inputs * tf.cast(scale, inputs.dtype) + tf.cast(shift, inputs.dtype)
        groups = self._split(inputs)
        gammas, betas = (_copies(parameter, len(groups)) for parameter in (gamma, beta))
        outputs, means, variances = zip(*map(self._normalize, groups, gammas, betas), strict=True)
        self._update(self.moving_mean, means)
        self._update(self.moving_variance, variances)
        return self._join(outputs)

    def get_config(self):
        return super().get_config() | {
            "group_size": self.group_size,
            "group_layout": self.group_layout,
            "running_statistics": self.running_statistics,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "axis": self.axis,
            "center": self.center,
            "scale": self.scale,
            **{name: keras.initializers.serialize(getattr(self, name)) for name in _INITIALIZERS},
        }

    def _along_axis(self, values, inputs):
        """Values [C] in the shape that multiplies the inputs' channels."""
        if self.axis == len(inputs.shape) - 1:
            return values
        return tf.reshape(values, [-1] + [1] * (len(inputs.shape) - 1 - self.axis))

    def _split(self, inputs):
        batch = inputs.shape[0]
        if self.group_size in (None, ALL, batch):
            return [inputs]
        if batch is None or batch % self.group_size:
            raise ValueError(
                "group_size must divide the (static) batch on a device; received "
                f"group_size={self.group_size}, batch={batch}."
            )
        count = batch // self.group_size
        if self.group_layout == "contiguous":
            return tf.split(inputs, count)
        return tf.unstack(tf.reshape(inputs, [self.group_size, count, *inputs.shape[1:]]), axis=1)

    def _join(self, groups):
        if len(groups) == 1:
            return groups[0]
        if self.group_layout == "contiguous":
            return tf.concat(groups, axis=0)
        stacked = tf.stack(groups, axis=1)  # [N, G, ...]
        return tf.reshape(stacked, [-1, *stacked.shape[2:]])

    def _normalize(self, group, gamma, beta):
        """Returns the normalised group, its mean [C] and its unbiased variance [C]."""
        parts = replicas() if self.group_size == ALL else 1
        fused = len(group.shape) == 4 and self.axis == 3 and self.compute_dtype != "float64"
        if fused and parts == 1:
            # Fused kernel, straight from the raw op: the wrapper raises epsilon to 1.001e-5.
            empty = tf.constant([], gamma.dtype)
            result = tf.raw_ops.FusedBatchNormV3(
                x=group,
                scale=gamma,
                offset=beta,
                mean=empty,
                variance=empty,
                epsilon=self.epsilon,
                is_training=True,
            )
            return result.y, result.batch_mean, result.batch_variance
        axes = [axis for axis in range(len(group.shape)) if axis != self.axis]
        values = tf.cast(group, gamma.dtype)
        mean, variance = (tf.nn.moments if parts == 1 else global_moments)(values, axes)
        scale = gamma * tf.math.rsqrt(variance + self.epsilon)
        count = float(parts * values.shape.num_elements() // values.shape[self.axis])
        mean_, scale, beta = (self._along_axis(v, group) for v in (mean, scale, beta))
        normalized = (values - mean_) * scale + beta
        return tf.cast(normalized, group.dtype), mean, variance * (count / (count - 1))

    def _update(self, running, batch_values):
        value = batch_values[0]
        if self.running_statistics == "mean":
            value = tf.reduce_mean(tf.stack(batch_values), axis=0)
        running.assign(running * self.momentum + value * (1 - self.momentum))


def _copies(parameter, count):
    """A copy of gamma or beta for each group, so that a reduction sums their gradients.

    It does so always in one order. The tape's AddN begins with whichever of them it can write to.
    """
    if count == 1:
        return [parameter]
    return tf.unstack(tf.broadcast_to(parameter, [count, parameter.shape[0]]))


def running_variables(model):
    """The ids of the variables that BatchNorm in groups moves on in training."""
    layers = [one for one in within(model) if isinstance(one, GroupBatchNorm) and one.trainable]
    return {id(v) for one in layers for v in (one.moving_mean, one.moving_variance)}
