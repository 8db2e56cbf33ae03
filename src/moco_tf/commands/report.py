"""`moco-tf report`."""

from moco_tf.api.report import report
from moco_tf.commands.flags import take_defaults
from moco_tf.commands.parser import Outcome, Parser


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folder, or folder of a probe's results; several"
    )
    command.add_argument("--data", metavar="D", help="pictures to look at; none: the run's own")
    command.add_argument(
        "--out", metavar="FILE.html", help="[report.html in RUN; of several runs, here]"
    )
    command.add_argument(
        "--pictures", type=int, metavar="N", group="evaluation",
        help="how many are embedded, up to 5000; 0: none; [as many as take some seconds]",
    )  # fmt: skip
    command.add_argument(
        "--layout", choices=["pca", "tsne"], group="evaluation", help="of the map [%(default)s]"
    )
    take_defaults(command, report)


def run(runs: list[str], json: bool, **settings) -> Outcome:
    from moco_tf.training.reporting import Reporter

    done = report(runs, reporter=Reporter(json_mode=json), **settings)
    sentences = [s for one in done.figures["verdict"] for s in one["sentences"]]
    wrote = f"wrote {done.path}: {done.figures['bytes'] / 1e6:.1f} MB, {done.figures['seconds']} s"
    return done.figures, "\n".join([*sentences, wrote]), True
