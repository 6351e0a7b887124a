"""Sockets between the ranks of a run; messages are JSON lines of limited length."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import selectors
import socket
import struct
from collections.abc import Iterable
from typing import Any

LOOPBACK = "127.0.0.1"
MAX_LINE = 8192  # bytes of a line; longer lines are not from this program
MAX_UNIDENTIFIED = 64  # open connections that have not identified themselves; the oldest is closed when there are more
SIOCGIFADDR = 0x8915  # from linux/sockios.h: the address of an interface
# a machine without power closes no connection: probe after 15 s without data, give up 20 s later
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address, by its spelling.

    A host name is not: its own machine may resolve it to a loopback address, other machines do not.

    Examples:
        >>> [is_loopback(address) for address in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "node0")]
        [True, True, True, False, False]
    """
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return address == "localhost"


def stay_on_loopback() -> None:
    """Make Gloo and NCCL listen on the loopback interface only, unless the user has chosen another one."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])


def choose_interface(address: str) -> None:
    """Make Gloo use the interface to the first node if this machine's name resolves to loopback, as on Debian.

    Args:
        address: Name or IP address of the first node.
    """
    with contextlib.suppress(OSError, ImportError):
        if not all(is_loopback(str(found[4][0])) for found in socket.getaddrinfo(socket.gethostname(), None)):
            return
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing
            mine = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # one without an address
                    if fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))[20:24] == mine:
                        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def listen(address: str, port: int = 0) -> socket.socket:
    """Return a socket that listens on the loopback interface, or on all interfaces if ``address`` is not loopback.

    Args:
        address: Name or IP address of this machine for other machines.
        port: The port; 0 for any free port.
    """
    if is_loopback(address):
        return socket.create_server((LOOPBACK, port), backlog=1024)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=1024)


def connect(address: str, port: int, timeout: float) -> socket.socket:
    """Connect with TCP keep-alive: the operating system closes the connection when the other machine is gone."""
    connection = socket.create_connection((LOOPBACK if is_loopback(address) else address, port), timeout=timeout)
    connection.settimeout(None)
    return kept_alive(connection)


def kept_alive(connection: socket.socket) -> socket.socket:
    """Enable TCP keep-alive: the operating system closes the connection when the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not on every operating system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def send_json(connection: socket.socket, message: Any) -> bool:
    """Send a line of JSON; return whether the connection is open."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return False
    return True


class Listener:
    """Reader of JSON lines from many connections at the same time.

    Args:
        server: Listening socket that accepts new connections, if any.
    """

    def __init__(self, server: socket.socket | None = None) -> None:
        self._selector = selectors.DefaultSelector()
        self._lines: dict[socket.socket, bytearray] = {}
        self.identified: set[socket.socket] = set()  # connections that are never closed for new ones
        if server is not None:
            self._selector.register(server, selectors.EVENT_READ, data="server")

    def add(self, connection: socket.socket, *, identified: bool = False) -> None:
        """Listen to a connection."""
        self._lines[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ)
        if identified:
            self.identified.add(connection)

    def remove(self, connection: socket.socket, *, close: bool = True) -> None:
        """Stop listening to a connection."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        self._lines.pop(connection, None)
        self.identified.discard(connection)
        if close:
            connection.close()

    def receive(self, timeout: float | None = None) -> list[tuple[socket.socket, Any]]:
        """Return received messages as (connection, message); None as message: the connection was closed."""
        found: list[tuple[socket.socket, Any]] = []
        for key, _ in self._selector.select(timeout):
            connection: Any = key.fileobj
            if key.data == "server":
                self._accept(connection)
            elif connection in self._lines:
                found += [(connection, message) for message in self._read(connection)]
        return found

    def _accept(self, server: socket.socket) -> None:
        try:
            connection, _ = server.accept()
        except OSError:  # closed before it was accepted, or too many files are open
            return
        unidentified = [other for other in self._lines if other not in self.identified]
        if len(unidentified) >= MAX_UNIDENTIFIED:
            self.remove(unidentified[0])
        self.add(kept_alive(connection))

    def _read(self, connection: socket.socket) -> list[Any]:
        line = self._lines[connection]
        try:
            data = connection.recv(MAX_LINE)
        except OSError:
            data = b""
        line += data
        *whole, rest = bytes(line).split(b"\n")
        try:
            messages = [json.loads(text) for text in whole]
        except (ValueError, RecursionError):
            messages, data = [], b""
        line[:] = rest
        return messages if data and len(rest) <= MAX_LINE else [*messages, None]

    def close(self, *, but: Iterable[socket.socket] = ()) -> None:
        """Close all connections except those in ``but``."""
        for connection in list(self._lines):
            self.remove(connection, close=connection not in but)
        self._selector.close()


def reason_of(error: Exception) -> str:
    """Return the message of a socket error without the address that Python adds."""
    code = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    return os.strerror(code) if code else getattr(error, "strerror", None) or str(error)


def duration(seconds: float) -> str:
    """Return a duration as readable text.

    Examples:
        >>> duration(1800), duration(90), duration(0.6)
        ('30 minutes', '90 seconds', '1 second')
    """
    number, unit = (round(seconds / 60), "minute") if seconds >= 120 else (max(0, round(seconds)), "second")
    return f"{number} {unit}" + "s" * (number != 1)
