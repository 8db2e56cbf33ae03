"""What each known mistake costs: one switch at a time, everything else equal: kNN top-1.

    python benchmarks/results/ablation.py --data ./cifar10 --seeds 3 --at-once 2
    python benchmarks/results/ablation.py --data ./cifar10 --seeds 3 --only no_shuffle
    python benchmarks/results/ablation.py --data ./cifar10 --seeds 3 --only aliased_resize \
        --image-size 16           (crops of an image's own size are only enlarged: no aliasing)

Each training is kept in OUT/trainings.jsonl as it ends; a rerun does what is missing. The right
way's seeds are those that `parity.py` has trained, and at least the asked ones. Writes
OUT/ablation.md.
"""

import json
import math
import statistics

from mistakes import MISTAKES, SETTINGS
from recorded import TRAININGS, all_recorded, rows
from setting import parser, prepared, spread


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=[*MISTAKES, *SETTINGS], help="these mistakes")
    options.add_argument("--image-size", type=int, help="side of a crop; none: the images' own")
    options = options.parse_args()
    images, digest, setting, seeds = prepared(options)
    if options.image_size:
        setting |= {"image_size": options.image_size}
    once = setting | {"knn_every": 0}  # at the end, which changes nothing of the training
    ways = {"right": ("ours", setting)}
    for name in options.only or [*MISTAKES, *SETTINGS]:
        broken = name in MISTAKES
        ways[name] = (f"broken:{name}", once) if broken else ("ours", once | SETTINGS[name])
    file = options.out / TRAININGS
    wanted = [(*way, seed) for seed in seeds for way in ways.values()]
    all_recorded(file, images, digest, wanted, options.at_once)
    found = {
        name: [
            row
            for row in rows(file)
            if row["key"]["side"] == side
            and row["key"]["setting"] == changed
            and row["key"]["images"] == digest
        ]
        for name, (side, changed) in ways.items()
    }
    result = {name: against(trained, found["right"]) for name, trained in found.items()}
    (options.out / "ablation.md").write_text(table(result), encoding="utf-8")
    print(json.dumps(result) if options.json else table(result))


def against(trained: list[dict], right: list[dict]) -> dict:
    """Returns mean and spread of the last epoch, and the cost against the right way.

    One seed means the same first weights and order of images, so the cost is the mean over the
    seeds that both have of their differences, with its standard error.
    """
    last, best = ({r["key"]["seed"]: r["curve"][-1] for r in side} for side in (trained, right))
    costs = [best[seed] - last[seed] for seed in last if seed in best]
    return {
        "seeds": len(last),
        "last": list(last.values()),
        "mean": statistics.fmean(last.values()),
        "sd": spread(list(last.values())),
        "cost": statistics.fmean(costs),
        "standard_error": spread(costs) / math.sqrt(len(costs)),
        "loss": statistics.fmean(row["losses"][-1] for row in trained),
        "minutes": statistics.fmean(row["minutes"] for row in trained),
        "cpu_minutes": statistics.fmean(row["cpu_minutes"] for row in trained),
    }


def table(result: dict, right: str = "right") -> str:
    lines = [
        "| | seeds | kNN top-1: mean | sd | cost, points | its standard error | last loss | "
        "CPU minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, way in result.items():
        cost = "" if name == right else f"{way['cost']:.2f}"
        error = "" if name == right else f"{way['standard_error']:.2f}"
        lines.append(
            f"| {name} | {way['seeds']} | {way['mean']:.2f} | {way['sd']:.2f} | {cost} | {error} | "
            f"{way['loss']:.2f} | {way['cpu_minutes']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
