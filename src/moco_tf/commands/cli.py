"""The command line: parse, call one function of a command, and turn its ending into a code."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence

from moco_tf import __version__
from moco_tf.commands.parser import Parser, fail
from moco_tf.errors import InputError, WorkerLostError
from moco_tf.training.signals import Interrupted, stop_at_once, stopped_exit_code

COMMANDS = {  # with its arguments -> what it does. The module of this name has `add` and `run`
    "pretrain [RECIPE]": "train an encoder on unlabelled images",
    "estimate [RECIPE]": "time, memory and disk of a run, and what is off in it",
    "preview [RECIPE]": "the images and the views of a run before it starts, and what is off",
    "pack SOURCE TARGET": "put the images of a folder into a few large files",
    "check RUN": "whether every file of a run is whole",
    "report RUN [RUN ...]": "what a run has learned, as one HTML file",
    "knn RUN": "kNN accuracy of a run",
    "probe RUN": "accuracy of a linear classifier on a run's features",
    "finetune RUN": "train encoder and classifier together on labels",
    "embed RUN --out FILE": "write the features of images to a file",
    "neighbours RUN [QUERY ...]": "the pictures most like given ones, or like one another",
    "convert SOURCE TARGET --to FORMAT": "take an encoder to and from PyTorch's formats",
    "export RUN --format FORMAT --out PATH": "an encoder for Keras, TensorFlow, ONNX or LiteRT",
    "runs [FOLDER]": "the runs there are, how far they are, and how two of them differ",
    "verify [TRACE.npz ...]": "replay recorded steps of the official code",
    "recipes": "list the recipes",
    "benchmark WHAT [RECIPE]": "images/s of the input path, the step, or both",
    "completion SHELL": "a script that completes commands, recipes and flags in a shell",
}


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
            words = sys.argv[1:] if arguments is None else arguments
            options, unknown = _parser(words).parse_known_args(words)
            given = vars(options)
            parser, run = given.pop("parser"), given.pop("run")
            if unknown:
                parser.error(f"unknown argument {unknown[0]}")
            if sys.platform == "win32":
                raise InputError("moco-tf does not run on native Windows. Use WSL 2.")
            process = importlib.import_module("moco_tf.commands.quiet")
            process.be_quiet()
            process.use_onednn()
            result, text, ok = run(**given)
            shown = json.dumps(result) if given["json"] and result else text
            if shown:
                print(shown)
            return 0 if ok else 1
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


def _parser(words: Sequence[str] | None = None) -> Parser:
    """Returns the parser, with the arguments of the command that `words` name; None: of all."""
    parser = Parser(prog="moco-tf", description="Momentum Contrast for TensorFlow.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    named = next((word for word in words or () if not word.startswith("-")), None)
    for usage, does in COMMANDS.items():
        name, _, arguments = usage.partition(" ")
        shown = " ".join(filter(None, ("%(prog)s", arguments, "[options]")))
        command = commands.add_parser(name, help=does, description=does, usage=shown)
        if words is None or name == named:
            command.words = words or ()
            module = importlib.import_module(f"moco_tf.commands.{name}")
            module.add(command)
            command.add_argument("--json", action="store_true", help="print one JSON object")
            command.set_defaults(run=module.run, parser=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
