"""The process of a command: what TensorFlow and Pillow say in it, and TensorFlow's kernels."""

import logging
import os
import platform
import warnings

from moco_tf.api.starting import QUIET


def be_quiet() -> None:
    """To be called before TensorFlow is imported; a TF_CPP_MIN_LOG_LEVEL that is set stays.

    Pillow's warnings of damaged files name none of them: what is unreadable is told by us.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = QUIET  # what matters comes as an exception as well
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


def use_onednn() -> None:
    """To be called before TensorFlow is imported, which leaves oneDNN off without AVX-512.

    With it a step takes about half the time there. A TF_ENABLE_ONEDNN_OPTS that is set stays.
    """
    if platform.machine() == "x86_64":
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
