"""The nodes of a run: where they meet, and what each of their processes says of itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers_framework.distributed.sockets import listen, reason_of
from transformers_framework.exceptions import ConfigurationError, RunError

LAUNCHERS = frozenset(("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))  # variables of those that look after nodes themselves


class ApartError(ConfigurationError):
    """The nodes of a run cannot meet, or know already that one refuses: there is nobody to tell."""


class AbsentError(RunError):
    """Not all nodes of a run have come in time."""


class Place(NamedTuple):
    """Where the nodes of a run meet.

    Args:
        address: Name or address of the first node.
        port: Port that is free there.
        node: Number of this node.
    """

    address: str
    port: int
    node: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place | None:
        """Return the place where the user has started a command on each of several nodes, else nothing.

        Examples:
            >>> Place.of({"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1"})
            Place(address='node0', port=29500, node=1)
            >>> Place.of({"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1", "LOCAL_RANK": "2"})
        """
        if LAUNCHERS & environment.keys() or "LOCAL_RANK" in environment:
            return None
        address, port, node = (environment.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"))
        return cls(address, int(port), int(node)) if address and port.isdecimal() and node.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def check(self) -> None:
        """Raise when the name of the first node is unknown on this one."""
        try:
            socket.getaddrinfo(self.address, self.port)
        except (OSError, UnicodeError) as error:
            raise ApartError(
                f"MASTER_ADDR is '{self.address}', which this machine cannot resolve ({reason_of(error)}): set it to "
                "the name or IP address of the first node, as the other nodes reach it."
            ) from error

    def listen(self) -> socket.socket:
        """Return the socket of the first node.

        Raises:
            ApartError: When another process has the port.
        """
        try:
            return listen(self.address, self.port)
        except (OSError, OverflowError) as error:
            raise ApartError(
                f"MASTER_PORT is {self.port}, on which this machine cannot listen ({reason_of(error)}): another run "
                "has it, most likely. Set it to a port that is free on the first node, the same on all nodes, and "
                "NODE_RANK to 0 on one node only."
            ) from error


class Member(NamedTuple):
    """A rank that takes part in a rendezvous.

    Args:
        rank: Number of the process.
        node: Number of its node.
        world_size: Number of processes of all nodes.
        nodes: Number of nodes.
        name: Name of the run.
        speaks: Whether it logs.
    """

    rank: int
    node: int
    world_size: int
    nodes: int
    name: str
    speaks: bool = True

    @classmethod
    def of(cls, message: dict[str, Any]) -> Member | None:
        """Return the member that a message is of; nothing when a stranger has sent it."""
        kinds = {name: type(value) for name, value in cls(0, 0, 0, 0, "")._asdict().items()}
        return cls(**message) if {name: type(value) for name, value in message.items()} == kinds else None

    def missing(self, ranks: list[int]) -> str:
        """Say which of the ranks, or the nodes that they are on, are not there.

        Examples:
            >>> Member(0, 0, 4, 2, "run").missing([0, 1, 2])
            '1 of 2 nodes (NODE_RANK 1; 3 of 4 processes are there)'
            >>> Member(0, 0, 3, 1, "run").missing([0])
            '2 of 3 processes (1, 2)'
        """
        absent = sorted({*range(self.world_size)} - {*ranks})
        if not absent:
            return ""
        if self.nodes == 1:
            return f"{len(absent)} of {self.world_size} processes ({', '.join(map(str, absent))})"
        nodes = sorted({rank * self.nodes // self.world_size for rank in absent})
        return (
            f"{len(nodes)} of {self.nodes} nodes (NODE_RANK {', '.join(map(str, nodes))}; "
            f"{self.world_size - len(absent)} of {self.world_size} processes are there)"
        )
