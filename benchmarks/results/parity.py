"""Ours against the official algorithm in PyTorch, trained on the same pictures: kNN top-1.

    python benchmarks/results/parity.py --data ./cifar10 --images 5000 --epochs 10 --seeds 5 --json
    python benchmarks/results/parity.py --data ./cifar10 --demo --images 50000 --test-images 10000 \
        --epochs 200 --seeds 3 --json                                              (on a GPU)

With --peer same_start both sides of a seed begin with the same weights, ours, and with --peer
our_views they train on the same views as well: less is left to chance. --peer twin_v3 compares
MoCo v3: ResNet and LARS, by the recipe cifar10-v3.
Needs torch. Every training is a process of its own, the sides in turns; each is kept in
OUT/trainings.jsonl as it ends, and a rerun does what is missing. Writes OUT/parity.md and .svg
(PEER.*; no picture with --last-only).
"""

import json
import math
import statistics

from picture import curves_svg
from recorded import TRAININGS, all_recorded
from setting import SCALED, SCALED_V3, parser, prepared, spread

SIDES = ("ours", "peer")
PEERS = {
    "twin": "the twin with first weights and views of its own",
    "same_start": "from our first weights",
    "our_views": "from our first weights, on our views in our order",
    "twin_v3": "MoCo v3 on both sides, with first weights and views of its own",
}


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    meaning = "; ".join(f"{name}: {what}" for name, what in PEERS.items())
    options.add_argument("--peer", choices=PEERS, default="twin", help=meaning)
    options = options.parse_args()
    scaled = SCALED_V3 if options.peer == "twin_v3" else SCALED
    images, digest, setting, seeds = prepared(options, scaled)
    wanted = [(side, setting, seed) for seed in seeds for side in ("ours", options.peer)]
    found = all_recorded(options.out / TRAININGS, images, digest, wanted, options.at_once)
    paired = not options.peer.startswith("twin")
    result = summary(dict(zip(SIDES, (found[0::2], found[1::2]), strict=True)), paired)
    result["settings"] = setting | {"images": options.images, "test_images": options.test_images}
    name = "parity" if options.peer == "twin" else options.peer
    (options.out / f"{name}.md").write_text(table(result), encoding="utf-8")
    if not options.last_only:
        curves = {"moco-tf": result["ours"], "PyTorch twin": result["peer"]}
        picture = curves_svg(curves, "epoch", "kNN top-1, %")
        (options.out / f"{name}.svg").write_text(picture, encoding="utf-8")
    print(json.dumps(result) if options.json else table(result))


def summary(rows: dict[str, list[dict]], paired: bool) -> dict:
    """Returns curves by seed, means of the last epoch, their difference and its standard error.

    If `paired`, as with the same first weights, the error is that of the differences by seed.
    """
    last = {side: [row["curve"][-1] for row in found] for side, found in rows.items()}
    error = math.hypot(*(spread(v) / math.sqrt(len(v)) for v in last.values()))
    if paired:
        pairs = [a - b for a, b in zip(last["ours"], last["peer"], strict=True)]
        error = spread(pairs) / math.sqrt(len(pairs))
    return {side: [row["curve"] for row in found] for side, found in rows.items()} | {
        "untrained": {side: [row["untrained"] for row in found] for side, found in rows.items()},
        "last_mean": {side: statistics.fmean(values) for side, values in last.items()},
        "last_sd": {side: spread(values) for side, values in last.items()},
        "difference": statistics.fmean(last["ours"]) - statistics.fmean(last["peer"]),
        "standard_error": error,
        "minutes": {side: [row["minutes"] for row in found] for side, found in rows.items()},
        "cpu_minutes": {side: [r["cpu_minutes"] for r in found] for side, found in rows.items()},
        "images_per_second": {
            side: [row["images_per_second"] for row in found] for side, found in rows.items()
        },
        "versions": rows["peer"][0]["versions"] | rows["ours"][0]["versions"],
    }


def table(result: dict) -> str:
    lines = [
        "| side | seeds | last epoch: mean | sd | untrained | minutes | CPU minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in SIDES:
        untrained, minutes, cpu = (
            statistics.fmean(result[name][side]) for name in ("untrained", "minutes", "cpu_minutes")
        )
        lines.append(
            f"| {side} | {len(result[side])} | {result['last_mean'][side]:.2f} | "
            f"{result['last_sd'][side]:.2f} | {untrained:.2f} | {minutes:.1f} | {cpu:.1f} |"
        )
    return "\n".join(lines) + (
        f"\n\nDifference {result['difference']:+.2f} points, standard error "
        f"{result['standard_error']:.2f}.\n"
    )


if __name__ == "__main__":
    main()
