"""The command line: parse, call one function of a command, and turn its ending into a code."""

import os
import signal
import sys

from moco_tf import __version__
from moco_tf.commands import (
    benchmark,
    check,
    convert,
    embed,
    estimate,
    export,
    finetune,
    knn,
    pack,
    pretrain,
    probe,
    recipes,
    verify,
)
from moco_tf.commands.flags import Parser, fail
from moco_tf.errors import InputError, WorkerLostError
from moco_tf.training.signals import Interrupted, stop_at_once, stopped_exit_code

COMMANDS = (
    pretrain,
    estimate,
    pack,
    check,
    knn,
    probe,
    finetune,
    embed,
    convert,
    export,
    verify,
    recipes,
    benchmark,
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code (0 done, 1 a check failed, 2 bad input)."""
    stop_at_once()
    try:
        return _run(arguments)
    except BrokenPipeError:  # nobody reads the output any more
        _drop_unwritten()
        return 128 + signal.SIGPIPE


def _run(arguments: list[str] | None) -> int:
    try:
        try:
            options, unknown = _parser().parse_known_args(arguments)
            if unknown:
                options.parser.error(f"unknown argument {unknown[0]}")
            return options.run(options)
        finally:
            sys.stdout.flush()  # not as Python ends, where an error would get another code
    except InputError as error:
        return fail(str(error))
    except (Interrupted, WorkerLostError) as stopped:
        print(f"moco-tf: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_unwritten()
        return fail(f"{error.filename or 'output'}: {error.strerror or error}.")
    except KeyboardInterrupt as stopped:
        code = stopped_exit_code(stopped)
        print("moco-tf: interrupted outside of the training steps", file=sys.stderr)
        return code
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            reason = str(error).splitlines()[0] if str(error) else "none is left"
            return fail(f"not enough memory ({reason}). Use a smaller batch, queue or encoder.")
        raise


def _drop_unwritten() -> None:
    """Forgets what cannot be written, or Python would try again as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> Parser:
    parser = Parser(
        prog="moco-tf", description="Momentum Contrast for TensorFlow.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(parser=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
