"""A pipeline ends at once, whatever its threads are at and whoever still holds its error."""

import re
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.views import views_of

import moco_tf
from moco_tf.data.pipeline import labelled_crops
from moco_tf.data.sources import from_arrays
from moco_tf.data.stream import Elements, mapped

CALL = 0.3  # seconds of each of Python's functions below
ENDS_WITHIN = 2.0  # seconds, on a machine that has other work


class Slow:
    """A pipeline whose threads are in Python nearly all the time."""

    def __init__(self):
        self.inside = 0

    def dataset(self):
        def in_python(number):
            self.inside += 1
            time.sleep(CALL)
            self.inside -= 1
            return number

        def function(number):
            return tf.numpy_function(in_python, [number], tf.int64, stateful=False)

        return mapped(tf.data.Dataset.range(10**9), function).prefetch(4)


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize("how", ["close", "forget"])
def test_it_ends_while_its_threads_are_in_python(how):
    slow = Slow()
    elements = Elements(slow.dataset())
    assert int(next(elements)) == 0
    wait_for(lambda: slow.inside > 0)
    started = time.monotonic()
    if how == "close":
        elements.close()
        assert list(elements) == []
    else:
        del elements
    assert time.monotonic() - started < CALL + ENDS_WITHIN
    assert slow.inside == 0  # no thread is left in Python


def test_it_ends_though_its_error_lives_on():
    dataset = mapped(tf.data.Dataset.range(9), lambda number: 5 // (2 - number))
    elements = Elements(dataset)
    held = weakref.ref(elements._held[0])
    with pytest.raises(tf.errors.InvalidArgumentError) as failure:
        list(elements)
    assert failure.value.__traceback__ is not None
    elements.close()
    assert held() is None


def test_the_last_moment_is_before_python_ends():
    assert Elements([1, 2]).close.atexit
    assert list(Elements([1, 2])) == [1, 2]


def test_no_pipeline_has_a_thread_that_tunes():
    images = from_arrays("test", np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2)
    shape = {"batch_size": 4, "image_size": 8}
    pipelines = [
        views_of(images, "v2", seed=0, **shape),
        labelled_crops(images, min_area=0.2, seed=0, start_step=0, **shape),
    ]
    for dataset in pipelines:
        assert dataset.options().autotune.enabled is False
    package = Path(moco_tf.__file__).parent
    sources = {path.name: path.read_text() for path in package.rglob("*.py")}
    maps = {name for name, text in sources.items() if re.search("AUTOTUNE|num_parallel", text)}
    assert maps == {"stream.py"}  # all others use `mapped`


@pytest.mark.slow
def test_python_ends_though_a_pipeline_is_held():
    """By a cycle and by the traceback that ends the process."""
    program = """
import time, sys
sys.path[:0] = [sys.argv[1]]
from test_stream import Elements, Slow, wait_for
slow = Slow()
elements = Elements(slow.dataset())
cycle = [elements]
cycle.append(cycle)
next(elements)
wait_for(lambda: slow.inside > 0)
print(time.time(), flush=True)
raise SystemError(cycle)
"""
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert "SystemError" in done.stderr


@pytest.mark.long
def test_no_run_of_fifty_stands_still_at_its_end(tmp_path):
    """Seconds from the last line of the training to the last line, and from there to the exit."""
    command = [sys.executable, "-u", "-m", "moco_tf", "pretrain", "shapes", "--max-steps", "20"]
    command += ["--width", "8", "--knn-every", "0", "--run-dir"]
    pauses = []
    for number in range(50):
        with subprocess.Popen(
            [*command, str(tmp_path / str(number))], stdout=subprocess.PIPE, text=True
        ) as run:
            told = [(line, time.monotonic()) for line in run.stdout]
            run.wait()
        trained = max(at for line, at in told if line.startswith("step 20"))
        pauses.append((told[-1][1] - trained, time.monotonic() - told[-1][1]))
        assert run.returncode == 0
    assert np.max(pauses) < 2.0, pauses
