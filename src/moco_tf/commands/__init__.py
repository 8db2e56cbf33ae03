"""The command line: one file a command with `add` and `run`, listed in `cli.py`."""
