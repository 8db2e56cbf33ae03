"""The fuzzer in `benchmarks/fuzz`: it notices what it must, and some inputs to every reader."""

import random
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz"))

import watch
from cases import write_case
from readers import READERS

from moco_tf.errors import DamagedError, InputError

INPUTS = {"folder": 4, "packing": 6, "image": 60}  # of the others 30


@pytest.fixture(scope="module")
def noticed(tmp_path_factory):
    """What is said of inputs that do harm on purpose, in their order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "MOST_GIB", 0.1)
        worker, said = watch.Worker("itself", 0, tmp_path_factory.mktemp("watched")), []
        for number in range(9):
            patch.setattr(watch, "MOST_SECONDS", 1 if number == 3 else 30)
            said.append(worker.ask(str(number))["finding"])
        worker.end()
    return said


@pytest.mark.parametrize(
    ("number", "finding"),
    [
        (0, ""),
        (1, "IndexError from ?"),
        (2, "the process ends with -6"),
        (3, "the process does not end within 1 s"),
        (4, "takes too much memory"),
        (5, "to write"),
        (6, "open /etc/hostname"),
        (7, "os.system b'true'"),
        (8, "a pickle asks for os.getcwd"),
    ],
)
def test_what_must_not_be_is_noticed(noticed, number, finding):
    assert finding in noticed[number] if finding else noticed[number] == ""


@pytest.mark.parametrize("name", READERS)
def test_hostile_input_is_read_or_refused_in_one_line(tmp_path, monkeypatch, name):
    from moco_tf.runs import encoders

    monkeypatch.setattr(encoders, "untrained_encoder", encoders.untrained_encoder)  # put back after
    monkeypatch.setattr("moco_tf.convert.reading.untrained_encoder", encoders.untrained_encoder)
    make, read, why_not = READERS[name](tmp_path / "given")
    if why_not:
        pytest.skip(why_not)
    monkeypatch.setattr("archives._bomb", lambda name: b"")  # they take seconds to make
    monkeypatch.setattr("images.BOMBS", (lambda: b"",))
    for number in range(INPUTS.get(name, 30)):
        case = tmp_path / str(number)
        case.mkdir()
        write_case(case, make(random.Random(f"0/{name}/{number}")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(case)
            except (InputError, DamagedError) as refused:
                assert str(refused).isprintable() and len(str(refused)) <= 2000


def test_an_input_is_a_function_of_its_number(tmp_path):
    for name in ("image", "yaml", "data.npz"):
        make = READERS[name](tmp_path)[0]
        assert make(random.Random("0/a/5")) == make(random.Random("0/a/5"))
        assert make(random.Random("0/a/5")) != make(random.Random("0/a/6"))
