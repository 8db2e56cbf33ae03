"""Shared fixtures: four virtual CPU devices, and the folder of recorded reference numbers."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
VIRTUAL_DEVICES = 4

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * VIRTUAL_DEVICES,
)


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
