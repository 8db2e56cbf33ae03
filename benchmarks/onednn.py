"""Our training step with oneDNN against TensorFlow's own kernels: images/s, in turns.

    python benchmarks/onednn.py --width 8 --json
    python benchmarks/onednn.py --encoder resnet50 --stem imagenet --image-size 224 --batch-size 16

The flags are those of step_vs_pytorch.py, whose side "ours" is measured twice. For processors on
which TensorFlow would leave oneDNN off by itself.
"""

import argparse
import json
import sys
from pathlib import Path

from alternate import measure, ratios, speed

KERNELS = {"onednn": "1", "tensorflow": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options, flags = parser.parse_known_args()
    command = [sys.executable, str(Path(__file__).with_name("step_vs_pytorch.py")), *flags]
    said = measure(
        {
            name: ["env", f"TF_ENABLE_ONEDNN_OPTS={on}", *command, "--worker", "ours"]
            for name, on in KERNELS.items()
        },
        options.rounds,
    )
    result = {name: speed(side) for name, side in said.items()}
    result |= ratios(*(said[name]["rounds"] for name in KERNELS)) | {"flags": flags}
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
