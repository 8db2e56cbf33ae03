"""The heads of MoCo v3: which layers there are, and how they begin."""

import numpy as np
from support.v3_networks import DIM, HIDDEN, networks

from moco_tf.models.heads import HEADS


def test_heads_are_the_official_ones():
    """Layers, and who ends in a BatchNorm; the projector always does, without scale and shift."""
    wanted = {
        "resnet": ("fc", [0, 1, 3, 4], [0, 1, 3]),
        "vit": ("head", [0, 1, 3, 4, 6, 7], [0, 1, 3, 4]),
    }
    assert wanted.keys() == HEADS.keys()
    for kind, (name, projector, predictor) in wanted.items():
        query, key = networks(kind)
        layers = {layer.name: layer for layer in query.model.layers}
        for head, numbers in ((name, projector), ("predictor", predictor)):
            assert [n for n in layers if n.startswith(f"{head}.")] == [
                f"{head}.{i}" for i in numbers
            ]
            linear = [layers[f"{head}.{i}"] for i in numbers if i % 3 == 0]
            assert not any(layer.use_bias for layer in linear)
            assert [layer.units for layer in linear] == [HIDDEN] * (len(linear) - 1) + [DIM]
            bound = 1 / np.sqrt(linear[0].kernel.shape[0])
            largest = np.abs(linear[0].kernel.numpy()).max()
            assert 0.7 * bound < largest <= bound
        assert layers[f"{name}.{projector[-1]}"].trainable_variables == []
        assert layers[f"{name}.1"].gamma is not None
        assert key.model.output_shape == query.model.output_shape == (None, DIM)
