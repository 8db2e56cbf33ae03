"""Starting TensorFlow when a command really needs it, and without its chatter."""

import os
import warnings

from moco_tf.data.decoder_messages import stderr_held_back
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.source_kind import check_source
from moco_tf.data_names import OBJECT, is_records, lost_object, paths_of
from moco_tf.errors import InputError
from moco_tf.files.store import is_url


def check_data(data: str | None) -> None:
    """Raises `InputError` if nothing is where `data` points, or no image; imports no TensorFlow."""
    if data is None:
        return
    if data.startswith(OBJECT):
        raise InputError(lost_object(data))
    if is_url(data) and not is_records(data):
        copy_pack(data)
    elif is_records(data) or paths_of(data):
        check_source(data)


def start_with_images(run: str, data: str | None) -> None:
    """Imports TensorFlow, if `run` and the images, `data` or the run's own, are there."""
    from moco_tf.runs.snapshot import images_of, peek

    check_data(images_of(peek(run), data, run))
    start_tensorflow()


def start_tensorflow() -> None:
    """Imports TensorFlow; what it says while starting is shown if it fails, or if asked for.

    Pillow's warnings of damaged files, which name none, are left out from then on.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:  # the user's own choice
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # what matters comes as an exception as well
    said = bytearray()
    try:
        with stderr_held_back() as said:  # lines from C++, before its own filter is set up
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.config.list_physical_devices()
    except Exception:
        os.write(2, said)
        raise
