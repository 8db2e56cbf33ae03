"""`moco-tf neighbours`."""

import argparse
from typing import Any

from moco_tf.api.neighbours import DUPLICATES, neighbours
from moco_tf.commands.flags import take_defaults
from moco_tf.commands.parser import Outcome, Parser, share
from moco_tf.errors import one_line

MOST_PAIRS = 20  # lines; --json and the page have more


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("run_or_file", metavar="RUN", help="run folder or converted file")
    command.add_argument(
        "queries", nargs="*", metavar="QUERY", help="pictures, or names of images in the data"
    )
    command.add_argument("--data", metavar="D", help="images to search; none: the run's own")
    command.add_argument("-k", "--k", type=int, metavar="N", help="neighbours [%(default)s]")
    command.add_argument(
        "--features", choices=["pooled", "projection"],
        help="the backbone's output or the head's, which MoCo trains [%(default)s]",
    )  # fmt: skip
    command.add_argument(
        "--duplicates", nargs="?", type=_similarity, const=DUPLICATES, metavar="ABOVE",
        help=f"pairs of images at least so similar, -1 to 1 [{DUPLICATES}]",
    )  # fmt: skip
    command.add_argument(
        "--max-bad-images", type=share, metavar="X", help="share of unreadable files to skip"
    )
    command.add_argument("--out", metavar="FILE", help=".html page of the pictures")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    take_defaults(command, neighbours)


def _similarity(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number; received {text}. If that is a picture, write it before the flag"
        ) from None


def run(run_or_file: str, queries: list[str], json: bool, **settings) -> Outcome:
    from moco_tf.training.reporting import Reporter

    result = neighbours(run_or_file, queries, reporter=Reporter(json_mode=json), **settings)
    return result, "\n".join(lines(result)), True


def lines(result: dict[str, Any]) -> list[str]:
    """A line for each neighbour below its query, and one for each pair."""
    text = []
    for one in result["queries"]:
        text.append(f"{one_line(one['query'])}{_class(one)}")
        text += [f"  {_similar(near)}  {near['image']}{_class(near)}" for near in one["neighbours"]]
    pairs = result["duplicates"][:MOST_PAIRS]
    if result["above"] is not None:
        count = result["duplicate_pairs"]
        first = f", the {len(pairs)} most similar" if len(pairs) < count else ""
        text.append(f"{count} pairs of a similarity of {result['above']:g} or more{first}")
    for pair in pairs:
        text.append(f"  {_similar(pair)}  {pair['first']['image']}  {pair['second']['image']}")
    return [*text, result["protocol"], *([f"wrote {result['out']}"] if result["out"] else [])]


def _similar(one: dict[str, Any]) -> str:
    return f"{one['similarity']:.4f}"


def _class(one: dict[str, Any]) -> str:
    return "" if one["class"] is None else f"  ({one['class']})"
