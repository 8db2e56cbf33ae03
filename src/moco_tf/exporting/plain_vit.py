"""What a vision transformer has of our own, by Keras's layers and operations."""

import keras
from keras import ops

from moco_tf.models.tokens import Tokens


def with_tokens(layer: Tokens, patches: keras.KerasTensor, *, dtype: str) -> keras.KerasTensor:
    """What `layer` makes of the patches [B, P, D], [B, 1 + P, D]: the same numbers.

    Both arrays are those of an Embedding, looked up by constant places. The class token can be
    trained, the positions are fixed.
    """
    tokens, width = 1 + layer.side**2, patches.shape[-1]
    first = ops.zeros_like(patches[:, :1, 0], dtype="int32")  # [B, 1]
    token = keras.layers.Embedding(1, width, dtype=dtype, name="cls_token")
    x = keras.layers.Concatenate(axis=1, dtype=dtype)([token(first), patches])
    place = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1) - 1  # [B, 1 + P]
    positions = keras.layers.Embedding(
        tokens, width, trainable=False, dtype=dtype, name="pos_embed"
    )
    x = keras.layers.Add(dtype=dtype)([x, positions(place)])
    token.embeddings.assign(layer.cls_token[0])
    positions.embeddings.assign(layer.pos_embed[0])
    return x
