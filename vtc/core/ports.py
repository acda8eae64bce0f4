"""The port to serve on, found before anything is made: servers know one failure alone, and name their own remedy."""

from __future__ import annotations

import errno
import socket

LOOPBACK = "127.0.0.1"
LOCAL = (LOOPBACK, "localhost", "::1")
"""Names of this machine that no other reaches."""
FIRST, TRIED = 7860, 100
"""The first port that is tried where none is named, and how many are."""


def free_port(host: str, port: int | None) -> int:
    """Find the port to serve on.

    Args:
        host: the address to bind to.
        port: None: the first free one from 7860 on; 0: any free one.

    Raises:
        OSError: it is taken, or may not be had, or `host` is no address of this machine.
    """
    wanted = [port] if port is not None else list(range(FIRST, FIRST + TRIED))
    for number in wanted:
        try:
            return _bound(host, number)
        except socket.gaierror:
            raise OSError(f"host={host!r} is no address; pass --host 127.0.0.1, or one of this machine") from None
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise OSError(f"host={host!r} is no address of this machine; pass --host 127.0.0.1") from None
            if error.errno == errno.EACCES:
                raise OSError(f"port={number} may not be had by this user; pass one above 1023 (--port)") from None
            if error.errno != errno.EADDRINUSE:
                raise
    which = f"port={port} is" if port is not None else f"the ports {wanted[0]} to {wanted[-1]} are"
    raise OSError(f"{which} taken; pass another one (--port), or --port 0 for any that is free")


def _bound(host: str, port: int) -> int:
    """`port`, or where it is 0 one that the system chooses; OSError where it cannot be bound."""
    plain = host.strip("[]")
    family, kind, _, _, address = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        # As servers do it: a port whose last connections are closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
        found: int = probe.getsockname()[1]
        return found
