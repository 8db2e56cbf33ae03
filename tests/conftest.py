"""Shared fixtures: four virtual CPU devices, and the folder of recorded reference numbers."""

import gc
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf
from support.runs import SHALLOW

import moco_tf.pretraining
from moco_tf.building import precision
from moco_tf.training.memory import give_back_freed_memory, peak_memory_bytes

ROOT = Path(__file__).resolve().parent.parent
VIRTUAL_DEVICES = 4
PEAKS = []  # of the processes of pytest-xdist, bytes

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * VIRTUAL_DEVICES,
)

# What the tests compare is float32's on every processor, unless a test asks for another precision.
precision.CPU_INFO = Path(os.devnull)


# The longest: begun first, so that no long file is left to one process at the end.
LONG = [
    "learning",
    "workers",
    "verify",
    "pretraining",
    "export",
    "finetune",
    "moco",
    "resnet",
    "probe",
    "pipeline",
    "embed",
    "stops",
    "pack",
    "load_encoder",
    "remote",
    "readme",
]


def pytest_configure(config):
    config.option.loadscopereorder = False  # of pytest-xdist: most tests first, the longest last
    marks = config.option.markexpr
    for name in ("slow", "long"):  # "-m golden" leaves out both, "-m slow" what is long as well
        if marks and not re.search(rf"\b({name}|long)\b", marks):
            config.option.markexpr = f"({config.option.markexpr}) and not {name}"


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # of a process of pytest-xdist
        session.config.workeroutput["peak"] = peak_memory_bytes()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    PEAKS.append(getattr(node, "workeroutput", {}).get("peak", 0))


def pytest_terminal_summary(terminalreporter):
    peaks = " and ".join(f"{peak / 1e9:.2f}" for peak in PEAKS or [peak_memory_bytes()])
    terminalreporter.write_line(f"peak memory of a process: {peaks} GB")


@pytest.fixture(scope="module", autouse=True)
def _forget(request):
    """What a long module has compiled goes with it."""
    yield
    if request.path.stem.removeprefix("test_") in LONG:
        gc.collect()
        give_back_freed_memory()


@pytest.fixture
def forgotten():
    """A recorded network takes up to a gigabyte, and goes only when cycles are collected."""
    gc.collect()  # what tests before have left
    yield
    gc.collect()
    give_back_freed_memory()


@pytest.fixture
def reports():
    """Who asks for it has pre-training write its report, which takes some seconds."""


@pytest.fixture(autouse=True)
def _no_report(request, monkeypatch):
    if "reports" not in request.fixturenames:
        train = moco_tf.pretraining._train
        monkeypatch.setattr(moco_tf.pretraining, "_train", lambda *args: train(*args[:-1], False))


@pytest.fixture(scope="session")
def golden_folder():
    """Folder of the recorded references: MOCO_TF_GOLDEN, or ../shared/golden."""
    folder = Path(os.environ.get("MOCO_TF_GOLDEN", ROOT.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"recorded references not found: no folder {folder} (set MOCO_TF_GOLDEN)")
    return folder


@pytest.fixture(scope="session")
def golden(golden_folder):
    """Returns a function: file name without suffix -> its arrays."""

    def load(name):
        path = golden_folder / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"{path} is absent")
        return np.load(path, allow_pickle=False)

    return load


@pytest.fixture
def global_policy():
    """Returns a function that sets Keras's global dtype policy, which a test leaves as it was."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def shallow():
    """While a module asks for it, resnet18 has one block a stage: half as much to compile."""
    from moco_tf.models import ENCODERS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "resnet18", SHALLOW)
        yield


@pytest.fixture(scope="module")
def compiled_once():
    """While a module asks for it, runs of the same settings share what they compile."""
    from support import compiled

    import moco_tf.evaluate.finetune
    import moco_tf.evaluate.monitor
    import moco_tf.pretraining

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moco_tf.evaluate.finetune, "build_network", compiled.build_network)
        patch.setattr(moco_tf.pretraining, "build_method", compiled.build_method)
        for module, name in (
            (moco_tf.pretraining, "build_step"),
            (moco_tf.evaluate.monitor, "build_monitors"),
        ):
            patch.setattr(module, name, compiled.of_method(module, name))
        yield
    compiled.forget()


@pytest.fixture(scope="module")
def encoders_once():
    """While a module asks for it, features of one encoder share what they compile."""
    from support import compiled

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_encoder", "embedding"):
            for module in (
                "evaluate.knn_run",
                "evaluate.ridge_probe",
                "exporting.embed",
                "look.embedder",
            ):
                patch.setattr(f"moco_tf.{module}.{name}", getattr(compiled, name))
        for module in ("knn_run", "ridge_probe"):
            patch.setattr(
                f"moco_tf.evaluate.{module}.untrained_encoder", compiled.untrained_encoder
            )
        yield
    compiled.forget()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """48 images: noise around one of two patterns, so 3 steps an epoch."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    base = np.where(labels[:, None, None, None], 60, 190) * np.ones((48, 16, 16, 3))
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = (base + rng.normal(0, 30, base.shape)).clip(0, 255).astype(np.uint8)
    np.savez(path, images=images, labels=labels)
    return str(path)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder at step 7 of a narrow ResNet-18 with an MLP head; all arrays are random."""
    from moco_tf.building import build_method
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs import checkpoint
    from moco_tf.runs import folder as run_folder

    sizes = {"width": 4, "image_size": 16, "dim": 6, "batch_size": 16, "group_size": 8}
    config = make_config(RECIPES["shapes"].config, sizes | {"queue_size": 20, "head": "mlp"})
    method, rng = build_method(config, tf.distribute.get_strategy()), np.random.default_rng(0)
    state = {}
    for name, variable in method.state().items():
        state[name] = variable.numpy()
        if name.endswith(("/gamma", "/beta", "/moving_mean", "/moving_variance")):
            state[name] = (0.5 + rng.random(variable.shape)).astype(np.float32)
    state["queue_pointer"] = np.array(4, np.int64)
    for name in [name for name in state if name.startswith("momentum/")]:
        state[name] = rng.standard_normal(state[name].shape).astype(np.float32)
    folder = tmp_path_factory.mktemp("small") / "run"
    run_folder.claim(folder, config)
    extra = {"epoch": 2}
    checkpoint.save(run_folder.checkpoint_folder(folder), state, step=7, extra=extra)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """The real loop, data and files, without an encoder to compile."""
    from support import quick_runs

    quick_runs.put_in_place(monkeypatch)


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on loopback."""
    from support.s3_server import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """The user's cache is not what tests read and write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of an empty cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/moco-tf"


@pytest.fixture
def server(s3_server, tmp_path, monkeypatch):
    """The same with an empty bucket, named in the environment; an empty cache of the user."""
    from support.s3_server import files

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)  # as with AWS_MAX_ATTEMPTS
    monkeypatch.setattr("moco_tf.runs.remote.PAUSE", 0.05)
    bucket = files()  # with the key, which a test may take away
    bucket.mkdir("bucket")
    s3_server.asked.clear()
    yield s3_server
    s3_server.status = s3_server.before = None
    bucket.rm("bucket", recursive=True)


@pytest.fixture
def file_server():
    """A web server on loopback with no file."""
    from support.file_server import FileServer

    server = FileServer()
    yield server
    server.stop()
