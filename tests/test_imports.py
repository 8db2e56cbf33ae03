"""Who may import whom: the rooms of the package and their levels."""

import ast
from pathlib import Path

import moco_tf

PACKAGE = Path(moco_tf.__file__).parent

# A room (file or folder of the package) -> its level, and the rooms that it may import.
# None: every room of a lower level, and none that `NEVER` names.
ROOMS: dict[str, tuple[float, set[str] | None]] = {
    "errors": (0, set()),
    "files": (1, {"errors"}),
    "models": (1, {"errors", "names"}),
    "augmentation": (0.5, {"errors"}),
    "names": (0.5, {"errors"}),
    "config": (1, {"errors", "augmentation", "names"}),
    "recipes": (2, {"config"}),
    "distribute": (2, {"errors"}),
    "methods": (4.5, {"models", "distribute", "training"}),
    "data": (2, {"errors", "files", "augmentation", "names"}),
    "runs": (3, {"errors", "files", "models", "config", "names"}),
    "training": (4, None),
    "evaluate": (5, None),
    "convert": (5, None),
    "verify": (5, None),
    "layers": (5, {"models"}),
    "functional": (5, {"methods", "training"}),
    "exporting": (6, None),
    "building": (6, None),
    "report": (6.5, None),
    "pretraining": (7, None),
    "benchmark": (7, None),
    "look": (7, None),
    "api": (7.5, None),
    "commands": (8, None),
    "__main__": (9, None),
}
NEVER = {("evaluate", "convert"), ("evaluate", "verify"), ("training", "data")}
WITHOUT_TENSORFLOW = (
    "errors.py",
    "augmentation",
    "config",
    "names",
    "recipes",
    "files",
    "api",
    "commands",
    "__main__.py",
    "distribute/cluster.py",
    "distribute/connect.py",
    "data/class_folders.py",
    "data/decoder_messages.py",
    "data/file_names.py",
    "data/file_set.py",
    "data/listing.py",
    "data/pack/stored.py",
    "data/pillow.py",
    "data/source_kind.py",
    "data/telling.py",
    "data/tfrecord/shards.py",
    "data/walk.py",
    "evaluate/kept_features.py",
    "evaluate/nearest.py",
    "exporting/rows.py",
    "look/bank.py",
    "look/found_page.py",
    "look/hints.py",
    "look/kept_rows.py",
    "look/neighbours.py",
    "look/opening.py",
    "report/charts.py",
    "report/curves.py",
    "report/images.py",
    "report/page.py",
    "report/read.py",
    "report/settings.py",
    "report/verdict.py",
    "report/write.py",
    "runs/background_save.py",
    "runs/config_file.py",
    "runs/same_config.py",
    "runs/check.py",
    "runs/checkpoint.py",
    "runs/checkpoint_file.py",
    "runs/extension.py",
    "runs/folder.py",
    "runs/initial_weights.py",
    "runs/objects.py",
    "runs/overview.py",
    "runs/log_digests.py",
    "runs/remote.py",
    "runs/snapshot.py",
    "runs/storage.py",
    "runs/variables.py",
    "runs/working_folder.py",
    "training/advice.py",
    "training/callbacks.py",
    "training/console.py",
    "training/facts.py",
    "training/progress.py",
    "training/reporting.py",
    "training/schedules.py",
    "training/signals.py",
    "training/trackers.py",
)


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    """(module, whether inside a function) of each import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in top
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"moco_tf.{alias.name}" for alias in node.names]
            for name in names if module == "moco_tf" else [module]:
                yield name, id(node) not in top


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_file_has_a_room():
    assert {room(path) for path in FILES} == set(ROOMS)


def test_rooms_import_what_the_table_allows():
    wrong = []
    for path in FILES:
        own = room(path)
        level, allowed = ROOMS[own]
        for module, _ in imports(path):
            parts = module.split(".")
            if parts[0] != "moco_tf" or parts[1:] in ([], ["__version__"], [own]):
                continue
            other = parts[1]
            fits = other == own or (
                ROOMS[other][0] < level and (allowed is None or other in allowed)
            )
            if not fits or (own, other) in NEVER:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert wrong == []


def test_commands_of_the_api_parse_and_call_it_alone():
    parsing = {"errors", "commands", "training.reporting", "exporting.targets"}
    parsing |= {"evaluate.probe_config", "evaluate.finetune_config"}
    for name in ("pretrain", "knn", "probe", "finetune", "embed", "export", "report"):
        found = {
            module.removeprefix("moco_tf.")
            for module, _ in imports(PACKAGE / "commands" / f"{name}.py")
            if module.startswith("moco_tf.")
        }
        others = {one for one in found - parsing if not one.startswith(("commands.", "api."))}
        assert not others and any(one.startswith("api.") for one in found), (name, others)


def test_what_the_command_line_needs_at_start_imports_no_tensorflow():
    light = [
        path
        for path in FILES
        if any(
            path == PACKAGE / name or PACKAGE / name in path.parents for name in WITHOUT_TENSORFLOW
        )
    ]
    assert len(light) > 40
    heavy = [
        f"{path.name}: {module}"
        for path in light
        for module, inside in imports(path)
        if module.split(".")[0] in ("tensorflow", "keras") and not inside
    ]
    assert heavy == []
