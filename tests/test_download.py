"""Downloads from a server on loopback: whole, resumed, cut for good, changed, wrong, not there."""

import fcntl
import hashlib
import socket

import numpy as np
import pytest

import moco_tf.files.download as module
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.download import download

DATA = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(2_500_000)


@pytest.fixture
def server(file_server, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "_CHUNK", 100_000)
    file_server.files["/a/file.bin"] = DATA
    return file_server


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads to the same path; returns the lines that were said."""

    def run(check=lambda path: None):
        said = []
        download(f"{server.url}/a/file.bin", path_in(tmp_path), check=check, say=said.append)
        return said

    return run


def path_in(folder):
    return folder / "cache" / "file.bin"


def names(folder):
    return {path.name for path in (folder / "cache").iterdir()}


def test_a_file_comes_whole_and_nothing_else_is_left(server, fetch, tmp_path):
    (line,) = fetch()
    assert line == f"downloading {server.url}/a/file.bin (3.0 MB)"
    assert path_in(tmp_path).read_bytes() == DATA
    assert names(tmp_path) == {"file.bin", ".file.bin.lock"}


def test_a_cut_connection_is_taken_up_where_it_was_cut(server, fetch, tmp_path):
    server.cuts = [1_000_000, 500_000]
    said = fetch()
    assert path_in(tmp_path).read_bytes() == DATA
    assert [span for _, span in server.asked] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert [line.partition(" MB)")[2] for line in said] == [
        "",
        ", from byte 1000000 on",
        ", from byte 1500000 on",
    ]


def test_one_that_stays_cut_is_one_line_and_goes_on_at_the_next_start(server, fetch, tmp_path):
    server.cuts = [1_000_000] + [0] * 5
    with pytest.raises(InputError, match=r"1000000 bytes are kept, and the same command goes on"):
        fetch()
    assert not path_in(tmp_path).exists()
    server.asked.clear()
    fetch()
    assert server.asked == [("/a/file.bin", "bytes=1000000-")]
    assert path_in(tmp_path).read_bytes() == DATA


def test_a_part_of_another_file_is_not_continued(server, fetch, tmp_path):
    server.cuts = [1_000_000] + [0] * 5
    with pytest.raises(InputError):
        fetch()
    server.files["/a/file.bin"] = OTHER
    fetch()
    assert path_in(tmp_path).read_bytes() == OTHER
    assert names(tmp_path) == {"file.bin", ".file.bin.lock"}


def test_a_server_that_gives_no_parts_begins_again(server, fetch, tmp_path):
    server.cuts, server.ranges = [1_000_000], False
    fetch()
    assert path_in(tmp_path).read_bytes() == DATA


def test_a_server_that_names_no_version_begins_again(server, fetch, tmp_path):
    server.tags, server.cuts = False, [1_000_000]
    fetch()
    assert path_in(tmp_path).read_bytes() == DATA
    assert [span for _, span in server.asked] == [None, None]


def test_a_part_that_was_whole_when_it_was_killed_is_not_fetched_again(server, fetch, tmp_path):
    def killed(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(killed)
    assert fetch() == []
    assert server.asked[-1] == ("/a/file.bin", "bytes=3000000-")
    assert path_in(tmp_path).read_bytes() == DATA


def test_a_wrong_file_is_deleted_and_said(fetch, tmp_path):
    def check(path):
        assert path.read_bytes() == DATA
        raise DamagedError(f"its MD5 is {hashlib.md5(DATA).hexdigest()}")

    with pytest.raises(
        InputError, match=r"is not the file that was published: its MD5 is [0-9a-f]+"
    ):
        fetch(check)
    assert names(tmp_path) == {".file.bin.lock"}


@pytest.mark.parametrize(
    ("status", "message"), [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service")]
)
def test_a_refusal_is_said_at_once(server, fetch, status, message):
    server.status = status
    with pytest.raises(InputError, match=f"the server says {message}.*get the file in another way"):
        fetch()
    assert len(server.asked) == 1


def test_no_network_is_said_at_once(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        refused = r"cannot download http.*\(\[Errno 111\] Connection refused\).*Check the network"
        with pytest.raises(InputError, match=refused) as caught:
            download(url, path_in(tmp_path), check=pytest.fail, say=pytest.fail)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot download no url"):
        download("no url", path_in(tmp_path), check=pytest.fail, say=pytest.fail)


def test_two_processes_do_not_download_one_file(fetch, tmp_path):
    path_in(tmp_path).parent.mkdir()
    with open(tmp_path / "cache" / ".file.bin.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is downloading"):
            fetch()
