"""python -m moco_tf."""

import sys

from moco_tf.cli import main

sys.exit(main())
