"""Starting TensorFlow when a command really needs it, and without its chatter."""

import os
import platform
import sys
import tempfile


def start_tensorflow() -> None:
    """Imports TensorFlow; what it says while starting is shown if it fails, or if asked for.

    On any x86-64 processor it computes with oneDNN, unless TF_ENABLE_ONEDNN_OPTS says otherwise: by
    itself it does so only where there is AVX-512 VNNI or AMX, and its own kernels take 1.5 to 2.4
    times as long for a training step.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # read once, as it is imported
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
