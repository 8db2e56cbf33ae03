"""TensorFlow is started with oneDNN, where nobody said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from moco_tf.commands.starting import start_tensorflow

IS_ON = """
from moco_tf.commands.starting import start_tensorflow
start_tensorflow()
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(
    ("processor", "asked", "found"),
    [
        ("x86_64", None, "1"),
        ("x86_64", "0", "0"),
        ("aarch64", None, None),
    ],
)
def test_onednn_is_used_on_x86_unless_the_user_says_otherwise(monkeypatch, processor, asked, found):
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", asked or "")
    if asked is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    start_tensorflow()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is for x86-64")
@pytest.mark.parametrize(
    ("asked", "found"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")]
)
def test_tensorflow_itself_says_so(asked, found):
    pytest.importorskip("tensorflow.python.util._pywrap_util_port")  # TensorFlow's own, not public
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"} | asked
    done = subprocess.run(
        [sys.executable, "-c", IS_ON], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
