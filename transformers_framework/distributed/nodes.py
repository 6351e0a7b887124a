"""Nodes of a run: the master address, and what each rank reports when it joins the rendezvous."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers_framework.distributed.sockets import listen, reason_of
from transformers_framework.exceptions import ConfigurationError, RunError

LAUNCHERS = frozenset(("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))  # variables of launchers that start all nodes themselves


class RendezvousError(ConfigurationError):
    """The rendezvous failed: the master address is wrong, or a node refused to start, which the others know."""


class RendezvousTimeoutError(RunError):
    """Not all nodes of a run have joined in time."""


class MasterAddress(NamedTuple):
    """The address of the rendezvous, on the first node, and the rank of this node.

    Args:
        address: Name or address of the first node.
        port: Port that is free there.
        node: Rank of this node.
    """

    address: str
    port: int
    node: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> MasterAddress | None:
        """Read the address from the environment where a user started the command on each of several nodes, else None.

        Examples:
            >>> MasterAddress.of({"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1"})
            MasterAddress(address='node0', port=29500, node=1)
            >>> MasterAddress.of({"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1", "LOCAL_RANK": "2"})
        """
        if LAUNCHERS & environment.keys() or "LOCAL_RANK" in environment:
            return None
        address, port, node = (environment.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"))
        return cls(address, int(port), int(node)) if address and port.isdecimal() and node.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def check(self) -> None:
        """Raise when this machine cannot resolve the name of the first node."""
        try:
            socket.getaddrinfo(self.address, self.port)
        except (OSError, UnicodeError) as error:
            raise RendezvousError(
                f"MASTER_ADDR is '{self.address}', which this machine cannot resolve ({reason_of(error)}): set it to "
                "the name or IP address of the first node, as the other nodes reach it."
            ) from error

    def listen(self) -> socket.socket:
        """Return the socket on which the first node listens.

        Raises:
            RendezvousError: When another process has the port.
        """
        try:
            return listen(self.address, self.port)
        except (OSError, OverflowError) as error:
            raise RendezvousError(
                f"MASTER_PORT is {self.port}, on which this machine cannot listen ({reason_of(error)}): another run "
                "has it, most likely. Set it to a port that is free on the first node, the same on all nodes, and "
                "NODE_RANK to 0 on one node only."
            ) from error


class Participant(NamedTuple):
    """What a rank reports when it joins the rendezvous.

    Args:
        rank: Global rank.
        node: Rank of its node.
        world_size: Number of ranks of all nodes.
        nodes: Number of nodes.
        name: Name of the run.
        logs: Whether it logs.
    """

    rank: int
    node: int
    world_size: int
    nodes: int
    name: str
    logs: bool = True

    @classmethod
    def of(cls, message: dict[str, Any]) -> Participant | None:
        """Parse the message of a participant; return None when it is not one of this program."""
        kinds = {name: type(value) for name, value in cls(0, 0, 0, 0, "")._asdict().items()}
        return cls(**message) if {name: type(value) for name, value in message.items()} == kinds else None

    def missing(self, ranks: list[int]) -> str:
        """Describe which ranks, or which nodes, have not joined.

        Examples:
            >>> Participant(0, 0, 4, 2, "run").missing([0, 1, 2])
            '1 of 2 nodes (NODE_RANK 1; 3 of 4 processes are there)'
            >>> Participant(0, 0, 3, 1, "run").missing([0])
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
