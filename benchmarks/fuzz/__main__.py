"""Hostile and broken input to everything of moco-tf that reads a file.

    python benchmarks/fuzz                                          # 500 inputs to each reader
    python benchmarks/fuzz --inputs 10000 --reader image --seed 1
    python benchmarks/fuzz --replay fuzz-findings/image-0-17

Each input is whole input made by this program and then broken: by single bytes, and with knowledge
of its format (sizes that lie, bombs, names that lead out of a folder, pickles that run something).
It goes to the real reader in a process of its own kind. Accepted are only success, an `InputError`
of one line, a `DamagedError`, and of an image that it is left out. All else is a finding: another
exception, the end of the process, more than 5 s, more than 2 GiB, a file touched outside the
input's own folder, a program started. An input is a function of (seed, reader, number).
"""

import argparse
import json
import sys
from pathlib import Path

from readers import READERS
from watch import MOST_GIB, MOST_SECONDS, replay, run


def main() -> int:
    options = _options()
    if options.replay:
        result = replay(options.replay)
        print(json.dumps(result))
        return 1 if result["finding"] else 0
    names = options.reader or list(READERS)
    results = [run(name, options.inputs, options.seed, options.findings) for name in names]
    if options.json:
        print(json.dumps({"seed": options.seed, "readers": results}))
    else:
        print(_table(results))
    return 1 if any(result["findings"] for result in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=500, help="to each reader [500]")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="[all of them]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="a finding, once more")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _table(results: list[dict]) -> str:
    lines = [
        f"limits: {MOST_SECONDS} s of processor time, {MOST_GIB} GiB above the start",
        f"{'reader':12}{'inputs':>8}{'read':>8}{'refused':>9}{'slowest s':>11}{'most MiB':>10}"
        f"{'findings':>10}",
    ]
    for one in results:
        if one["inputs"] == 0:
            lines.append(f"{one['reader']:12}{one['why']}")
            continue
        lines.append(
            f"{one['reader']:12}{one['inputs']:8}{one['read']:8}{one['refused']:9}"
            f"{one['seconds']:11.2f}{one['mib']:10.0f}{sum(one['findings'].values()):10}"
        )
        for what, count in one["findings"].items():
            lines.append(f"    {count} x {what}: {one['examples'][what][:100]!r}")
    lines.append(f"{'all':12}{sum(one['inputs'] for one in results):8}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
