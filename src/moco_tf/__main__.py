"""python -m moco_tf."""

import sys

from moco_tf.commands.cli import main

sys.exit(main())
