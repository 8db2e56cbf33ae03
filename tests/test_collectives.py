"""What replicas tell each other, against the same on lists of arrays."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.distribute.collectives import broadcast_from_first, gather_rows, mean_over_replicas
from moco_tf.distribute.strategy import make_strategy


def in_replicas(devices, function, values):
    """`function` of each replica's value, as every replica sees it."""
    strategy = make_strategy(devices)

    @tf.function(autograph=False)
    def run():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return function(tf.nest.map_structure(lambda rows: tf.gather(rows, number), values))

        return strategy.run(replica)

    result = run()
    return [
        tf.nest.map_structure(
            lambda value, place=place: strategy.experimental_local_results(value)[place].numpy(),
            result,
        )
        for place in range(devices)
    ]


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_numbers_of_all_replicas_are_combined_alike(devices):
    rng = np.random.default_rng(devices)
    values = {
        "vector": rng.standard_normal((devices, 5)).astype(np.float32),
        "more": [rng.standard_normal((devices, 2, 3)), rng.standard_normal(devices)],
        "scalar": rng.standard_normal(devices).astype(np.float32),
    }
    for function, expected in (
        (broadcast_from_first, lambda rows: rows[0]),
        (mean_over_replicas, lambda rows: sum(rows[1:], rows[0]) / rows.dtype.type(devices)),
    ):
        for seen in in_replicas(devices, function, values):
            tf.nest.map_structure(
                lambda got, rows, expected=expected: np.testing.assert_array_equal(
                    got, expected(rows), strict=True
                ),
                seen,
                tf.nest.map_structure(np.asarray, values),
            )


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (1, 5), (3, 4)])  # bytes of a row: 27, 5 and 4
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_rows_of_all_replicas_come_in_their_order(shape, dtype):
    rows = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(dtype)
    for seen in in_replicas(4, gather_rows, rows):
        np.testing.assert_array_equal(seen, rows.reshape(-1, *shape[1:]), strict=True)
