"""The program's process: the memory pages that it asks for."""

import subprocess
import sys

import pytest

from moco_tf import __main__ as program

OFFERS = {"madvise": "always [madvise] never\n", "always": "[always] madvise never\n"}


class StartedError(Exception):
    """In place of a new process."""


def start(monkeypatch, tmp_path, offer, tunables):
    """Returns the settings of the process that `use_huge_pages` starts; None: it starts none."""
    offered = tmp_path / "enabled"
    if offer in OFFERS:
        offered.write_text(OFFERS[offer])
    environment = {} if tunables is None else {"GLIBC_TUNABLES": tunables}
    monkeypatch.setattr(program, "OFFERED", offered)
    monkeypatch.setattr(program.os, "environ", environment)
    monkeypatch.setattr(program.sys, "orig_argv", ["python", "-m", "moco_tf", "recipes"])

    def execv(path, arguments):
        assert path == sys.executable
        assert arguments == [sys.executable, "-m", "moco_tf", "recipes"]
        raise StartedError

    monkeypatch.setattr(program.os, "execv", execv)
    try:
        program.use_huge_pages()
    except StartedError:
        return environment["GLIBC_TUNABLES"]
    assert environment == ({} if tunables is None else {"GLIBC_TUNABLES": tunables})
    return None


ASKED = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("offer", "tunables", "expected"),
    [
        ("madvise", None, ASKED),
        ("madvise", "glibc.malloc.arena_max=1", f"glibc.malloc.arena_max=1:{ASKED}"),
        ("madvise", ASKED, None),
        ("madvise", "glibc.malloc.hugetlb=0", None),
        ("always", None, None),
        ("none", None, None),
    ],
)
def test_huge_pages_are_asked_for_where_linux_waits_for_that(
    monkeypatch, tmp_path, offer, tunables, expected
):
    assert start(monkeypatch, tmp_path, offer, tunables) == expected


def test_the_new_process_does_what_the_old_one_was_asked_for():
    command = [sys.executable, "-m", "moco_tf", "recipes", "--json"]
    plain = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    outputs = [
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        for environment in ({}, plain)
    ]
    assert outputs[0] == outputs[1] != b""
