"""`moco-tf knn`."""

import json

from moco_tf.commands.flags import beside
from moco_tf.commands.starting import check_data, start_tensorflow


def add(commands) -> None:
    """Adds the command to the subparsers."""
    knn = commands.add_parser("knn", help="kNN accuracy of a run", allow_abbrev=False)
    knn.add_argument("folder", metavar="RUN", help="run folder or converted file")
    knn.add_argument("--data", help="labelled images; none: the run's own")
    knn.add_argument(
        "--split", choices=["val", "test"], help="part to judge on [val if there is one, or test]"
    )
    knn.add_argument("--features", choices=["projection", "pooled"], default="projection")
    knn.add_argument("--k", type=int, default=200)
    knn.add_argument("--temperature", type=float, default=0.1)
    knn.add_argument("--no-baselines", action="store_true", help="this encoder's number alone")
    knn.set_defaults(run=_knn)


def _knn(options) -> int:
    from moco_tf.runs.snapshot import images_of, peek

    check_data(images_of(peek(options.folder), options.data, options.folder))
    start_tensorflow()
    from moco_tf.evaluate.knn import evaluate_run

    result = evaluate_run(
        options.folder,
        data=options.data,
        split=options.split,
        features=options.features,
        k=options.k,
        temperature=options.temperature,
        compare=not options.no_baselines,
    )
    if options.json:
        print(json.dumps(result))
    else:
        line = f"kNN top-1 {result['knn_top1']:.2f}%{beside(result, 'knn_top1')}"
        print(f"{line}\n{result['protocol']}")
    return 0
