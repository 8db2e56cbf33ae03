"""The class token of a vision transformer, and the fixed positions of all tokens.

Legend: B images, P patches, D width.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="moco_tf")
class Tokens(keras.layers.Layer):
    """Puts a learned class token before the patches and adds the fixed positions of all.

    [B, P, D] -> [B, 1 + P, D].

    Args:
        side: patches in a row of the image; P = side^2.
        seed: of the class token, which is drawn from N(0, 1e-6).
    """

    def __init__(self, side, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.side, self.seed = side, seed

    def build(self, input_shape):
        width = input_shape[-1]
        draw = keras.initializers.RandomNormal(stddev=1e-6, seed=self.seed)
        self.cls_token = self.add_weight(shape=(1, 1, width), initializer=draw, name="cls_token")
        self.pos_embed = self.add_weight(
            shape=(1, 1 + self.side**2, width),
            initializer=lambda shape, dtype: ops.cast(
                position_table(self.side, width)[None], dtype
            ),
            trainable=False,
            name="pos_embed",
        )

    def compute_output_spec(self, inputs):
        batch, patches, width = inputs.shape
        return keras.KerasTensor((batch, patches + 1, width), dtype=self.compute_dtype)

    def call(self, inputs):
        first = ops.broadcast_to(self.cls_token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([first, inputs], axis=1) + self.pos_embed

    def get_config(self):
        return super().get_config() | {"side": self.side, "seed": self.seed}


def position_table(side, width):
    """Sine and cosine of the row (first half) and the column of each patch: float32 [1 + P, D].

    Row a and column b give [sin(a w), cos(a w), sin(b w), cos(b w)] at D/4 frequencies
    w_j = 10000^(-j / (D/4)). The class token's row, the first, is zero.
    """
    quarter = width // 4
    # Rounded to float32 where PyTorch rounds. The functions themselves are computed in float64:
    # NumPy's in float32 have other last digits on a processor with AVX-512.
    exponents = np.arange(quarter, dtype=np.float32) / np.float32(quarter)
    frequencies = np.float32(1) / np.float32(10000 ** exponents.astype(np.float64))
    angles = np.arange(side, dtype=np.float32)[:, None] * frequencies  # [side, D/4]
    angles = angles.astype(np.float64)
    one = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # [side, D/2]
    row, column = np.repeat(one, side, axis=0), np.tile(one, (side, 1))  # [P, D/2]
    table = np.concatenate([row, column], axis=1)
    return np.concatenate([np.zeros_like(table[:1]), table]).astype(np.float32)
