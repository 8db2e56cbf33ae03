"""`moco-tf knn`."""

from moco_tf.api.evaluate import knn
from moco_tf.commands.flags import beside, take_defaults
from moco_tf.commands.parser import Outcome, Parser, share


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    command.add_argument("--data", metavar="D", help="labelled images; none: the run's own")
    command.add_argument(
        "--split", choices=["val", "test"], help="part to judge on [val if there is one, or test]"
    )
    command.add_argument("--features", choices=["projection", "pooled"], help="[%(default)s]")
    command.add_argument("--k", type=int, metavar="N", help="neighbours [%(default)s]")
    command.add_argument(
        "--temperature", type=float, metavar="X", group="evaluation",
        help="of the votes [%(default)s]",
    )  # fmt: skip
    command.add_argument(
        "--no-baselines", dest="compare", action="store_false", help="this encoder's number alone"
    )
    command.add_argument(
        "--max-bad-images", type=share, metavar="X", help="share of unreadable files to leave out"
    )
    take_defaults(command, knn)


def run(folder: str, compare: bool, json: bool, **settings) -> Outcome:
    result = knn(folder, baselines=compare, **settings)
    line = f"kNN top-1 {result['knn_top1']:.2f}%{beside(result, 'knn_top1')}"
    return result, f"{line}\n{result['protocol']}", True
