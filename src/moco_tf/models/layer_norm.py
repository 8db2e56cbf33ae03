"""Layer normalization in few passes over the tokens."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="moco_tf")
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's, over the last axis: [..., D] -> [..., D], written as its definition.

    Keras multiplies out (x - mean) gamma / sd + beta. Then the tokens are used twice more, and so
    are their gradients.

    Source: arXiv:1607.06450, equation 4.
    """

    def call(self, inputs):
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.cast(inputs, dtype)
        gamma, beta = ops.cast(self.gamma, dtype), ops.cast(self.beta, dtype)
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        y = centred * ops.rsqrt(variance + self.epsilon) * gamma + beta
        return ops.cast(y, self.compute_dtype)
