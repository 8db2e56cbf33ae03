"""Who may import whom: a room imports from lower levels, or from itself."""

import ast
from pathlib import Path

import moco_tf

PACKAGE = Path(moco_tf.__file__).parent

# A file or folder of the package -> its level.
LEVELS = {
    "errors": -1,
    "interruption": 0,
    "held_back": 0,
    "cluster": 1,
    "exchange": 1,
    "npz": 1,
    "near_names": 0,
    "batch_groups": 0,
    "sealed": 1,
    "config": 1,
    "schedules": 1,
    "sgd": 1,
    "torch_names": 1,
    "distribute": 2,
    "rendezvous": 2,
    "recipes": 2,
    "progress": 2,
    "run_folder": 2,
    "data": 2,
    "models": 2,
    "meetings": 3,
    "workers": 4,
    "checkpoint": 3,
    "remote": 4,
    "written": 3,
    "reporting": 4,
    "methods": 3,
    "pack": 3,
    "diverged": 4,
    "saving": 4,
    "ending": 6,
    "encoder_file": 4,
    "check": 4,
    "advice": 2,
    "extension": 4,
    "initial": 5,
    "evaluate": 5,
    "assembly": 6,
    "convert": 6,
    "export": 6,
    "verify": 6,
    "train": 7,
    "benchmark": 8,
    "commands": 9,
    "cli": 10,
    "__main__": 11,
}
WITHOUT_CONFIG = ("data", "models", "methods", "schedules", "sgd", "torch_names")
WITHOUT_TENSORFLOW = (
    "rendezvous",
    "cluster",
    "errors",
    "held_back",
    "interruption",
    "npz",
    "near_names",
    "batch_groups",
    "config",
    "schedules",
    "progress",
    "recipes",
    "run_folder",
    "sealed",
    "written",
    "checkpoint",
    "encoder_file",
    "advice",
    "extension",
    "initial",
    "check",
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


def test_every_file_has_a_level():
    assert {room(path) for path in FILES} == set(LEVELS)


def test_files_import_from_lower_levels_or_their_own_room():
    wrong = []
    for path in FILES:
        for module, _ in imports(path):
            parts = module.split(".")
            if parts[0] != "moco_tf" or parts[1:] in ([], ["__version__"]):
                continue
            if parts[1] != room(path) and LEVELS[parts[1]] >= LEVELS[room(path)]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert wrong == []


def test_the_config_stops_at_the_door():
    below = [path for path in FILES if room(path) in WITHOUT_CONFIG]
    assert below
    assert [str(p) for p in below for module, _ in imports(p) if module == "moco_tf.config"] == []


def test_what_the_command_line_needs_at_start_imports_no_tensorflow():
    light = [
        path for path in FILES if room(path) in (*WITHOUT_TENSORFLOW, "commands", "cli", "__main__")
    ]
    heavy = [
        f"{path.name}: {module}"
        for path in light
        for module, inside in imports(path)
        if module.split(".")[0] in ("tensorflow", "keras") and not inside
    ]
    assert heavy == []
