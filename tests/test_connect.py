"""Workers wait for each other at their addresses, in any order, and name who does not come."""

import socket
import threading
import time

import pytest

from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.connect import wait_for_workers
from moco_tf.errors import InputError


@pytest.fixture
def addresses():
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    named = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in held)
    for one in held:
        one.close()
    return named


def port(address):
    return int(address.rpartition(":")[2])


def test_all_go_on_when_the_last_has_come(addresses):
    came: dict[int, float] = {}

    def come(index):
        wait_for_workers(Cluster(addresses, index), 20)
        came[index] = time.monotonic()
        if index == 0:  # a server takes the place of the socket, as TensorFlow's does
            server.append(socket.create_server(("", port(addresses[0]))))

    server: list[socket.socket] = []
    threads = [threading.Thread(target=come, args=(index,)) for index in (1, 2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert not came
    began = time.monotonic()
    come(0)
    for thread in threads:
        thread.join(20)
    server[0].close()
    assert sorted(came) == [0, 1, 2] and min(came.values()) >= began


def test_who_does_not_come_is_named(addresses):
    late = pytest.raises(InputError, match=rf"^worker 2 \({addresses[2]}\) did not come within")
    with socket.create_server(("127.0.0.1", port(addresses[1]))), late:
        wait_for_workers(Cluster(addresses, 0), 0.5)


def test_a_taken_port_is_told(addresses):
    taken = pytest.raises(InputError, match=r"worker 0 .* cannot use its port \(Address already")
    with socket.create_server(("", port(addresses[0]))), taken:
        wait_for_workers(Cluster(addresses, 0), 0.5)
