"""Starting TensorFlow when a command really needs it, and without its chatter."""

import os
import sys
import tempfile


def start_tensorflow() -> None:
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
