"""Memory: a process tells its own peak; the collector waits."""

import gc
import subprocess
import sys

import pytest

from moco_tf.training.memory import peak_memory_bytes, without_collector


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent's peak counts")
def test_a_child_of_a_large_parent_tells_its_own_peak():
    large = b"\1" * 2**28
    assert peak_memory_bytes() > len(large)
    code = "from moco_tf.training.memory import peak_memory_bytes; print(peak_memory_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 2**20 < int(child.stdout) < 2**27


def test_the_collector_waits_and_goes_on_as_before():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(ValueError), without_collector():
                assert not gc.isenabled()
                made = [[] for _ in range(1000)]
                raise ValueError
            assert gc.isenabled() is enabled
            oldest = {id(one) for one in gc.get_objects(generation=2)}
            assert oldest.issuperset(map(id, made))
        finally:
            gc.enable()
