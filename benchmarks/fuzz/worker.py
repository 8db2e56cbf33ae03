"""The process that reads: an input is made, written to a folder, read, and the outcome told.

python worker.py READER SEED FOLDER GIB, and then a line for each input: its number, and instead of
making it the folder that holds it.
"""

import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from cases import write_case
from guard import Guard
from readers import ALL
from watch import STARTED

LONGEST_MESSAGE = 2000
ADDRESS_GIB = 6  # above that at the start: what asks for more gets none, and the machine lives on


def main() -> None:
    reader, seed, folder, most_gib = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    case, outside = folder / "case", folder / "outside"
    shutil.rmtree(folder / "given", ignore_errors=True)
    (folder / "scratch").mkdir(exist_ok=True)
    tempfile.tempdir = str(folder / "scratch")  # where TensorFlow compiles what it is given
    make, read, why_not = ALL[reader](folder / "given")
    print(why_not or "ready", file=said, flush=True)
    guard = Guard(case, outside, folder / "given", folder / "scratch")
    most = ADDRESS_GIB * 2**30 + 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    os.chdir(outside)
    for line in sys.stdin:
        number, _, given = line.strip().partition(" ")
        shutil.rmtree(case, ignore_errors=True)
        if given:
            shutil.copytree(given, case, symlinks=True)
        else:
            case.mkdir()
            rng = random.Random(f"{seed}/{reader}/{number}")
            rng.number = number
            write_case(case, make(rng))
        print(STARTED, file=said, flush=True)
        print(json.dumps(_outcome(read, case, guard, float(most_gib))), file=said, flush=True)


def _outcome(read, case: Path, guard: Guard, most_gib: float) -> dict:
    from moco_tf.errors import DamagedError, InputError

    outcome, finding, example, started = "refused", "", "", time.process_time()
    with guard:
        try:
            outcome = read(case)
        except (InputError, DamagedError) as error:
            finding, example = _of_message(str(error)), str(error)[:200]
        except BaseException as error:
            finding, example = _of_exception(error), str(error)[:200]
    seconds, mib = time.process_time() - started, guard.mib
    finding = finding or guard.finding
    if not finding and mib > most_gib * 1024:
        finding = "takes too much memory"
    return {"outcome": outcome, "seconds": seconds, "mib": mib, "finding": finding} | {
        "example": example
    }


def _of_message(message: str) -> str:
    if not message.isprintable():
        return "says more than a line, or what is not text"
    return "says too much" if len(message) > LONGEST_MESSAGE else ""


def _of_exception(error: BaseException) -> str:
    """The exception, and the last place in the package that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(f.filename).name}:{f.name}" for f in frames if "moco_tf" in f.filename]
    return f"{type(error).__name__} from {places[-1] if places else '?'}"


if __name__ == "__main__":
    main()
