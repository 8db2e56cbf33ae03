"""The recipe `small` against plain MoCo v2 on few images, and which of its changes does it.

    python benchmarks/results/small_data.py --data ./cifar10 --seeds 3 --at-once 2

Both are scaled alike: narrow network, image size, batch, rate, epochs. Each training is kept in
OUT/trainings.jsonl as it ends; a rerun does what is missing. Writes OUT/small_data.md.
"""

import json

from ablation import against, table
from recorded import TRAININGS, all_recorded
from setting import SCALED, parser, prepared

ALIKE = ("width", "batch_size", "group_size", "learning_rate", "knn_k")
CIFAR = {"encoder": "resnet18", "stem": "small", "image_size": 32, "normalization": "cifar10"}
SHORT = {"recipe": "moco-v2", "queue_size": 1024}  # equals `small` at one network and rate
SHORT_99 = {"recipe": "small", "key_momentum": 0.99}
WAYS = {
    "small": SHORT,
    "moco-v2": {"recipe": "moco-v2"},
    "moco-v2, m 0.99": {"recipe": "moco-v2", "key_momentum": 0.99},
    "small, K 256": SHORT | {"queue_size": 256},
    "small, m 0.99": SHORT_99,
    "small, m 0.99, K 4096": SHORT_99 | {"queue_size": 4096},
}


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = options.parse_args()
    images, digest, setting, seeds = prepared(options)
    alike = CIFAR | {name: SCALED[name] for name in ALIKE}
    alike |= {"epochs": setting["epochs"], "knn_every": 0}
    wanted = [("ours", alike | WAYS[name], seed) for seed in seeds for name in options.only]
    file = options.out / TRAININGS
    found = all_recorded(file, images, digest, wanted, options.at_once)
    by_way = {name: found[place :: len(options.only)] for place, name in enumerate(options.only)}
    first = by_way[options.only[0]]
    result = {name: against(trained, first) for name, trained in by_way.items()}
    said = table(result, right=options.only[0])
    (options.out / "small_data.md").write_text(said, encoding="utf-8")
    print(json.dumps(result) if options.json else said)


if __name__ == "__main__":
    main()
