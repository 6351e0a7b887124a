"""Nodes of a run: the master address, and the message with which a rank joins the rendezvous."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers_framework.distributed.sockets import listen, reason_of
from transformers_framework.exceptions import ConfigurationError, RunError

LAUNCHERS = frozenset(("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))  # variables of launchers that start all nodes


class RendezvousError(ConfigurationError):
    """The rendezvous failed: the master address is wrong, or a node refused to start and has notified the others."""


class RendezvousTimeoutError(RunError):
    """Not all nodes of a run have joined in time."""


class MasterAddress(NamedTuple):
    """Address of the rendezvous on the first node, and the rank of this node.

    Args:
        address: Name or IP address of the first node.
        port: Free port on the first node.
        node: Rank of this node.
    """

    address: str
    port: int
    node: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> MasterAddress | None:
        """Read the address from the environment if the user started the command on each of several nodes, else None.

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
        """Raise if this machine cannot resolve the name of the first node."""
        try:
            socket.getaddrinfo(self.address, self.port)
        except (OSError, UnicodeError) as error:
            raise RendezvousError(
                f"MASTER_ADDR is '{self.address}', which this machine cannot resolve ({reason_of(error)}). Set it to "
                "the name or IP address with which other nodes reach the first node."
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
                f"MASTER_PORT is {self.port}, on which this machine cannot listen ({reason_of(error)}); another run "
                "probably uses it. Set it to a free port of the first node, the same on all nodes, and "
                "NODE_RANK to 0 on one node only."
            ) from error


class Participant(NamedTuple):
    """A rank that joins the rendezvous; sent as a message to rank 0.

    Args:
        rank: Global rank.
        node: Rank of its node.
        world_size: Number of ranks on all nodes.
        nodes: Number of nodes.
        name: Name of the run.
        logs: Whether the rank logs.
    """

    rank: int
    node: int
    world_size: int
    nodes: int
    name: str
    logs: bool = True

    @classmethod
    def of(cls, message: dict[str, Any]) -> Participant | None:
        """Parse the message of a participant; return None if it is not a message of this program."""
        kinds = {name: type(value) for name, value in cls(0, 0, 0, 0, "")._asdict().items()}
        return cls(**message) if {name: type(value) for name, value in message.items()} == kinds else None

    def missing(self, ranks: list[int]) -> str:
        """Describe which ranks, or nodes, have not joined.

        Examples:
            >>> Participant(0, 0, 4, 2, "run").missing([0, 1, 2])
            '1 of 2 nodes (NODE_RANK 1; 3 of 4 processes have joined)'
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
            f"{self.world_size - len(absent)} of {self.world_size} processes have joined)"
        )
