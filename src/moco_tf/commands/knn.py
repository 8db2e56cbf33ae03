"""`moco-tf knn`."""

from moco_tf.commands.flags import beside
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.commands.starting import start_with_images


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    command.add_argument("--data", metavar="D", help="labelled images; none: the run's own")
    command.add_argument(
        "--split", choices=["val", "test"], help="part to judge on [val if there is one, or test]"
    )
    command.add_argument(
        "--features", choices=["projection", "pooled"], default="projection", help="[%(default)s]"
    )
    command.add_argument("--k", type=int, default=200, metavar="N", help="neighbours [%(default)s]")
    command.add_argument(
        "--temperature", type=float, default=0.1, metavar="X", group="evaluation",
        help="of the votes [%(default)s]",
    )  # fmt: skip
    command.add_argument(
        "--no-baselines", dest="compare", action="store_false", help="this encoder's number alone"
    )


def run(folder: str, data: str | None, json: bool, **settings) -> Outcome:
    start_with_images(folder, data)
    from moco_tf.evaluate.knn_run import evaluate_run

    result = evaluate_run(folder, data=data, **settings)
    line = f"kNN top-1 {result['knn_top1']:.2f}%{beside(result, 'knn_top1')}"
    return result, f"{line}\n{result['protocol']}", True
