"""Nodes meet, say for whom they wait, and learn of each other's mistakes; no stranger delays or stops them."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from transformers_framework.distributed import rendezvous
from transformers_framework.distributed.nodes import MasterAddress, Participant, RendezvousError, RendezvousTimeoutError
from transformers_framework.distributed.rendezvous import Rendezvous, RendezvousServer, refuse
from transformers_framework.distributed.sockets import MAX_LINE, is_loopback, listen
from transformers_framework.exceptions import ConfigurationError, RunError

PORT = 4711  # what the first rank gives


@pytest.fixture
def master() -> MasterAddress:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return MasterAddress("127.0.0.1", server.getsockname()[1], 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "NOTIFY_TIMEOUT", 3.0)


def participant(rank: int, world_size: int = 4, nodes: int = 2, name: str = "run") -> Participant:
    return Participant(rank, rank * nodes // world_size, world_size, nodes, name)


def wait_for_all(
    master: MasterAddress, *participants: Participant, timeout: float = 20, meanwhile: Callable[[], Any] = lambda: None
) -> list[Any]:
    """Let ranks meet, as threads of this process; return what each got, or why it did not."""
    found: dict[int, Any] = {}
    ends = [Rendezvous(timeout) for _ in participants]

    def one(index: int, me: Participant) -> None:
        try:
            found[index] = ends[index].wait_for_all(me, master, port=PORT)
        except (ConfigurationError, RunError) as error:
            found[index] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(participants)]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(timeout=30)
    for end in ends:
        end.__exit__()
    return [found.get(index) for index in range(len(participants))]


def test_all_go_on_when_all_are_there(master: MasterAddress) -> None:
    assert wait_for_all(master, *map(participant, (3, 1, 0, 2))) == [PORT] * 4


@pytest.mark.parametrize(
    "greeting", [b"", b"GET / HTTP/1.0\r\n\r\n", b'{"rank": 1}\n', b"[" * MAX_LINE + b"\n", b"x" * 100_000]
)
def test_strangers_delay_nobody(greeting: bytes, master: MasterAddress) -> None:
    here, strangers = Rendezvous(), []
    here.server = RendezvousServer(master.listen())
    for _ in range(100):
        strangers.append(socket.create_connection((master.address, master.port), timeout=5))
        strangers[-1].sendall(greeting)
    other, before = (
        threading.Thread(target=Rendezvous().wait_for_all, args=(participant(1, 2), master)),
        time.monotonic(),
    )
    other.start()
    assert here.wait_for_all(participant(0, 2), master, port=PORT) == PORT
    assert time.monotonic() - before < 10
    other.join()
    here.__exit__()
    for stranger in strangers:
        stranger.close()


def test_who_is_missing_is_said_at_once_and_again(
    master: MasterAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rendezvous, "LOG_INTERVAL", 0.5)
    monkeypatch.setattr(rendezvous, "STATUS_INTERVAL", 0.2)
    monkeypatch.setattr(logging.getLogger("transformers_framework"), "propagate", True)
    with caplog.at_level(logging.INFO):
        first, third = wait_for_all(master, participant(0), participant(2), timeout=2)
    assert isinstance(first, RendezvousTimeoutError)
    assert str(first).startswith(f"Timeout after waiting 2 seconds at {master} for 2 of 2 nodes (NODE_RANK 0, 1; ")
    assert " (--rendezvous_timeout). Start the same command there" in str(first)
    assert isinstance(third, RendezvousTimeoutError)
    lines = [record.message for record in caplog.records]
    assert (
        f"Waiting at {master} for 2 of 2 nodes (NODE_RANK 0, 1; 2 of 4 processes have joined); giving up in 2 seconds"
        in lines
    )
    assert len(lines) > 4


def test_a_first_node_that_never_comes(master: MasterAddress) -> None:
    (found,) = wait_for_all(master, participant(2), timeout=0.5)
    assert isinstance(found, RendezvousTimeoutError)
    assert f"at {master} for the first node (Connection refused)" in str(found)


def test_a_service_that_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, and says nothing: a timeout of PyTorch's store would not end that."""
    monkeypatch.setattr(rendezvous, "STATUS_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = wait_for_all(MasterAddress("127.0.0.1", server.getsockname()[1], 1), participant(2), timeout=2)
    assert "for the first node (another program answers there, or the node is frozen)" in str(found)


def test_a_port_that_is_taken(master: MasterAddress) -> None:
    with listen(master.address, master.port):
        (found,) = wait_for_all(master, participant(0))
    assert isinstance(found, RendezvousError)
    assert str(found).startswith(
        f"MASTER_PORT is {master.port}, on which this machine cannot listen (Address already in"
    )


@pytest.mark.parametrize("name", ["no-such-server.invalid", "x" * 80, "a..b"])
def test_an_address_that_is_unknown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"MASTER_ADDR": name, "MASTER_PORT": "29500", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(
        RendezvousError, match=f"MASTER_ADDR is '{name}', which this machine cannot resolve .* Set it to"
    ):
        Rendezvous().__enter__()


def test_two_nodes_with_one_number(master: MasterAddress) -> None:
    """One of the two is told, and takes the other's master in vain."""
    found = wait_for_all(master, participant(0, 2), participant(1, 2), participant(1, 2))
    assert found[0] == PORT
    refused = [error for error in found if isinstance(error, RendezvousError)]
    assert len(refused) == 1
    assert "Another node has NODE_RANK 1 already. Set it to 0 on the first node" in str(refused[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (participant(1, 2, name="other"), "--name is 'other' on this node and 'run'"),
        (participant(1, 4), "WORLD_SIZE is 4 on this"),
    ],
)
def test_nodes_of_different_runs(other: Participant, message: str, master: MasterAddress) -> None:
    first, second = wait_for_all(master, participant(0, 2), other, timeout=3)
    assert isinstance(first, RendezvousTimeoutError)
    assert message in str(second)


def test_a_node_that_refuses_tells_the_others(master: MasterAddress) -> None:
    mistake, told = "--learning_rat: unknown flag\x1b[2J", "refuses to start: --learning_rat: unknown flag\\x1b[2J"
    found = wait_for_all(master, *map(participant, (0, 1)), meanwhile=lambda: refuse(master._replace(node=1), mistake))
    assert all(isinstance(error, RendezvousError) for error in found)
    assert str(found[0]) == f"Node 1 of this run {told}"
    found = wait_for_all(
        master, *(participant(rank, 3, 3) for rank in (1, 2)), meanwhile=lambda: refuse(master, mistake)
    )
    assert [str(error) for error in found] == [f"The first node of this run {told}"] * 2


def test_a_refusal_after_the_start_is_of_the_same_run(master: MasterAddress) -> None:
    here = Rendezvous()
    threads = [threading.Thread(target=Rendezvous().wait_for_all, args=(participant(1, 2), master))]
    threads[0].start()
    assert here.wait_for_all(participant(0, 2), master, port=PORT) == PORT
    threads[0].join()
    refuse(master._replace(node=7), "wrong", "another")
    refuse(master._replace(node=7), "NODE_RANK is 7", "run")
    end = time.monotonic() + 5
    while not here.late_refusal() and time.monotonic() < end:
        time.sleep(0.05)
    assert here.late_refusal() == "Node 7 of this run refuses to start: NODE_RANK is 7"
    here.__exit__()


def test_the_first_node_listens_before_it_loads_data(master: MasterAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a node that refuses at once is heard by one that loads data for an hour."""
    for variable, value in {"MASTER_ADDR": master.address, "MASTER_PORT": str(master.port), "NODE_RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with Rendezvous() as here:
        refuse(master._replace(node=1), "wrong")
        with pytest.raises(RendezvousError, match="Node 1 of this run refuses to start: wrong"):
            here.wait_for_all(participant(0, 2), master)
    RendezvousServer(master.listen()).close()  # the port is free again


def test_one_machine_is_reached_from_itself_only(master: MasterAddress) -> None:
    with listen("localhost") as server:
        assert is_loopback(server.getsockname()[0])
    with listen("node0") as server:
        assert not is_loopback(server.getsockname()[0])
