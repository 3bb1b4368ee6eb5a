"""The port that a gateway listens on; imports no server, as a supervisor takes it before anything else."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from asterism.core.errors import ConfigError


def take_port(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket, on a port that others may take too where it is shared; raises `ConfigError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named, as asyncio sets TCP_NODELAY only where it is; without that, 40 ms go by an answer.
        taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(taken)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            taken.bind((host, port))
            taken.listen(1024)  # at once: until then, another process could bind the port too
            on_failure.pop_all()
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error}); choose another with --host and --port"
        ) from error
    return taken


def url_of(taken: socket.socket) -> str:
    """Where a browser finds the service."""
    host, port = taken.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
