"""The command line: parse, pick a recipe, call one function."""

import argparse
import difflib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from moco_tf import __version__
from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
from moco_tf.evaluate.probe_config import ProbeConfig, check_quick
from moco_tf.interruption import Interrupted, stop_at_once, stopped_exit_code
from moco_tf.recipes import DEFAULT_RECIPE, RECIPES


def main(arguments: list[str] | None = None) -> int:  # noqa: PLR0911 - one for each ending
    """Runs one command; returns its exit code (0 done, 1 a check failed, 2 bad input)."""
    stop_at_once()
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            options.parser.error(f"unknown argument {unknown[0]}")
        return options.run(options)
    except InputError as error:
        return _fail(str(error))
    except Interrupted as stopped:
        print(f"moco-tf: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:  # nobody reads the output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}.")
    except KeyboardInterrupt as stopped:
        code = stopped_exit_code(stopped)
        print("moco-tf: interrupted outside of the training steps", file=sys.stderr)
        return code
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            reason = str(error).splitlines()[0] if str(error) else "none is left"
            return _fail(f"not enough memory ({reason}). Use a smaller batch, queue or encoder.")
        raise


def _start_tensorflow() -> None:
    """Imports TensorFlow; what it says while starting is shown if it fails, or if asked for."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:  # the user's own choice
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # what matters comes as an exception as well
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)  # the lines come from C++, before its own filter is set up
        try:
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.config.list_physical_devices()
        except Exception:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _fail(message: str) -> int:
    print(f"moco-tf: error: {message}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message):
        words = [w for w in message.split() if w.startswith("--")]
        near = [m for w in words for m in difflib.get_close_matches(w, self._option_string_actions)]
        hint = f"Did you mean {near[0]}?" if near else f"See {self.prog} --help."
        self.exit(_fail(f"{message.rstrip('.')}. {hint}"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="moco-tf", description="Momentum Contrast for TensorFlow.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pretrain = commands.add_parser(
        "pretrain", help="train an encoder on unlabelled images", allow_abbrev=False
    )
    pretrain.add_argument("recipe", nargs="?", help="[shapes]", metavar="RECIPE")
    pretrain.add_argument("--config", metavar="FILE.yaml", help="fields from a YAML file")
    for name, field in Config.model_fields.items():
        if name != "recipe":
            _add_field(pretrain, name, field)
    pretrain.set_defaults(run=_pretrain)

    knn = commands.add_parser("knn", help="kNN accuracy of a run", allow_abbrev=False)
    knn.add_argument("folder", metavar="RUN", help="run folder or converted file")
    knn.add_argument("--data", help="labelled images; none: the run's own")
    knn.add_argument("--features", choices=["projection", "pooled"], default="projection")
    knn.add_argument("--k", type=int, default=200)
    knn.add_argument("--temperature", type=float, default=0.1)
    knn.set_defaults(run=_knn)

    probe = commands.add_parser(
        "probe", help="accuracy of a linear classifier on a run's features", allow_abbrev=False
    )
    probe.add_argument("run_of_encoder", metavar="RUN")
    probe.add_argument("--quick", action="store_true", help="closed-form ridge classifier, seconds")
    rates = ProbeConfig.model_fields["lr"].description
    probe.add_argument("--lr", nargs="+", metavar="L", default=argparse.SUPPRESS, help=rates)
    for name, field in ProbeConfig.model_fields.items():
        if name not in ("run", "lr"):
            _add_field(probe, name, field, "--out" if name == "run_dir" else None)
    probe.set_defaults(run=_probe)

    convert = commands.add_parser(
        "convert", help="take an encoder to and from PyTorch's formats", allow_abbrev=False
    )
    convert.add_argument("source", metavar="SOURCE", help="run folder or file")
    convert.add_argument("target", metavar="TARGET", help="file to write")
    formats = ["official", "torchvision", "timm", "detectron2", "moco-tf"]
    convert.add_argument("--to", required=True, choices=formats)
    convert.add_argument("--with-head", action="store_true", help="keep fc where it is left out")
    convert.add_argument("--image-size", type=int, metavar="X", help="none: 224, small stem 32")
    convert.add_argument("--normalization", metavar="X", help="none: imagenet, small stem cifar10")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")
    convert.set_defaults(run=_convert)

    verify = commands.add_parser(
        "verify", help="replay recorded steps of the official code", allow_abbrev=False
    )
    verify.add_argument("files", nargs="*", metavar="TRACE.npz")
    verify.add_argument("--devices", type=int, default=None)
    verify.add_argument("--float64", action="store_true", help="compare in double precision")
    verify.set_defaults(run=_verify)

    recipes = commands.add_parser("recipes", help="list the recipes", allow_abbrev=False)
    recipes.set_defaults(run=_recipes)
    for command in (pretrain, knn, probe, convert, verify, recipes):
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(parser=command)
    return parser


def _add_field(parser, name: str, field: Any, flag: str | None = None) -> None:
    flags = [flag or "--" + name.replace("_", "-")]
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    options["help"] = f"{field.description} [{field.default}]".replace("%", "%%")
    if field.annotation is bool:
        parser.add_argument(*flags, nargs="?", const="true", metavar="BOOL", **options)
        off = "--no-" + name.replace("_", "-")
        parser.add_argument(
            off, dest=name, action="store_const", const="false", default=argparse.SUPPRESS
        )
    else:
        parser.add_argument(*flags, metavar="X", **options)


def resolve_config(recipe: str | None, yaml_file: str | None, flags: dict[str, Any]) -> Config:
    """Returns the recipe's config, changed by the YAML file and then by the flags.

    The file may name the recipe itself, as `recipe: NAME`.
    """
    fields = _read_yaml(yaml_file) if yaml_file is not None else {}
    named = fields.pop("recipe", None)
    if recipe and named and recipe != named:
        raise InputError(
            f"config={yaml_file} is for the recipe {named!r}; received recipe={recipe!r}. "
            f"Leave one of them out."
        )
    recipe = recipe or named or DEFAULT_RECIPE
    if recipe not in RECIPES:
        raise InputError(f"unknown recipe {recipe!r}. Known recipes: {', '.join(RECIPES)}.")
    return make_config(RECIPES[recipe].config, fields | flags)


def _read_yaml(file: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            double = sorted({str(key) for key in keys if keys.count(key) > 1})
            if double:
                raise InputError(f"config={file} gives the field {double[0]!r} twice.")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader)  # a safe one
    except OSError as error:
        raise InputError(f"config={file} could not be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config={file} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"config={file} must hold 'field: value' lines.")
    return {str(name): value for name, value in values.items()}


def _pretrain(options) -> int:
    flags = {name: value for name, value in vars(options).items() if name in Config.model_fields}
    flags.pop("recipe")
    config = resolve_config(options.recipe, options.config, flags)
    _start_tensorflow()
    from moco_tf.reporting import Reporter
    from moco_tf.train import pretrain

    reporter = Reporter(json_mode=options.json)
    summary = pretrain(config, reporter=reporter)
    if options.json:
        print(json.dumps(summary))
        return 0
    reporter.line(f"done: step {summary['step']}, {summary['seconds']:.0f} s")
    found = {
        "trained": summary["knn_top1"],
        "untrained": summary["knn_top1_untrained"],
        "raw pixels": summary["knn_top1_pixels"],
    }
    shown = [f"{what} {top1:.1f}%" for what, top1 in found.items() if top1 is not None]
    if shown:
        reporter.line("kNN top-1: " + "   ".join(shown))
    return 0


def _knn(options) -> int:
    _start_tensorflow()
    from moco_tf.evaluate.knn import evaluate_run

    result = evaluate_run(
        options.folder,
        data=options.data,
        features=options.features,
        k=options.k,
        temperature=options.temperature,
    )
    if options.json:
        print(json.dumps(result))
    else:
        print(f"kNN top-1 {result['knn_top1']:.2f}%\n{result['protocol']}")
    return 0


def _convert(options) -> int:
    _start_tensorflow()
    from moco_tf.convert import convert, describe

    result = convert(
        options.source,
        options.target,
        to=options.to,
        with_head=options.with_head,
        image_size=options.image_size,
        normalization=options.normalization,
        overwrite=options.overwrite,
    )
    if options.json:
        print(json.dumps(result))
    else:
        print(describe(result))
    return 0 if result["equal"] else 1


def _probe(options) -> int:
    changes = {n: v for n, v in vars(options).items() if n in ProbeConfig.model_fields}
    changes["run"] = options.run_of_encoder
    config = make_config(ProbeConfig(run=""), changes)
    if options.quick:
        check_quick(changes)
    _start_tensorflow()
    from moco_tf.evaluate.probe import probe
    from moco_tf.evaluate.probe_report import BackboneChangedError
    from moco_tf.evaluate.quick import quick_probe
    from moco_tf.reporting import Reporter

    reporter = Reporter(json_mode=options.json)
    try:
        summary = (quick_probe if options.quick else probe)(config, reporter=reporter)
    except BackboneChangedError as error:
        _fail(str(error))
        return 1
    if options.json:
        print(json.dumps(summary))
        return 0
    if len(config.lr) > 1:
        for head in summary["heads"]:
            reporter.line(f"learning rate {head['lr']:g}: {_accuracies(head)}")
    reporter.line(f"{_accuracies(summary)}\n{summary['protocol']}")
    return 0


def _accuracies(values: dict[str, Any]) -> str:
    return (
        f"top-1 {values['top1']:.2f}%  top-5 {values['top5']:.2f}%  "
        f"best top-1 {values['top1_best']:.2f}%"
    )


def _verify(options) -> int:
    _start_tensorflow()
    from moco_tf.verify import print_report, verify_files

    result = verify_files(options.files, devices=options.devices, float64=options.float64)
    if options.json:
        print(json.dumps(result))
    else:
        print_report(result)
    return 0 if result["ok"] else 1


def _recipes(options) -> int:
    if options.json:
        listed = {
            name: {"config": r.config.model_dump(), "source": r.source, "expect": r.expect}
            for name, r in RECIPES.items()
        }
        print(json.dumps(listed))
        return 0
    for name, recipe in RECIPES.items():
        print(f"{name}\n    {recipe.source}\n    {recipe.expect}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
