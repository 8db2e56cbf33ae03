"""The scripts that run whole processes for long, with few kills and few steps."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def script(name, *flags):
    command = [sys.executable, str(ROOT / "benchmarks" / name), *flags, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_a_run_killed_thrice_ends_as_one_left_alone():
    result = script("kills.py", "--kills", "3", "--steps", "60")
    assert result["equal"] and result["kills"] == 3
    assert all(kill["codes"] == [-9] for kill in result["each"])


@pytest.mark.long
def test_a_long_run_keeps_its_memory_and_files():
    result = script("long_run.py", "--steps", "1000")
    assert abs(result["rss_growth"]) < 0.02
    assert result["open_files_growth"] == 0 and result["threads_growth"] == 0


@pytest.mark.long
def test_a_run_on_a_folder_with_broken_files_keeps_every_promise():
    result = script("broken_folder.py")
    assert {name for name, one in result.items() if name != "passed" and one["passed"]} == {
        *("killed", "divided", "changed", "refused")
    }
