"""The process of a command: TensorFlow and Pillow say in it only what ends it."""

import logging
import os
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
