"""Serving the page."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any

from .page import LARGEST, looks, page
from .state import AppState

LOOPBACK = "127.0.0.1"
FIRST, TRIED = 7860, 100
"""The first port that is tried where none is named, and how many are."""


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        url: where.
        blocks: the page; `blocks.close()` ends it.
    """

    url: str
    blocks: Any

    def close(self) -> None:
        """End it."""
        self.blocks.close(verbose=False)


def serve(
    state: AppState,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    wait: bool = True,
    largest: str = LARGEST,
    share: bool = False,
    auth: tuple[str, str] | None = None,
) -> Served:
    """Serve the page of `state`.

    No file of the server can be asked for but what a visitor uploaded and what was drawn for the page; nothing is sent
    elsewhere, unless it is shared.

    Args:
        state: models and media of the page.
        host: the address to bind to; by default only this machine can reach it.
        port: None: the first free one from 7860 on; 0: any free one.
        wait: until it is interrupted.
        largest: what an upload may have at most, as "200mb"; a larger one is refused while it comes.
        share: open a tunnel of Gradio's, by whose address everybody who knows it reaches the page for a week.
        auth: a name and a password that visitors must give.

    Raises:
        OSError: the port is taken, `host` is no address of this machine, or the tunnel cannot be opened.
    """
    found = free_port(host, port)
    blocks = page(state)
    _, url, shared = blocks.launch(
        server_name=host,
        server_port=found,
        prevent_thread_lock=not wait,
        share=share,
        auth=auth,
        inbrowser=False,
        quiet=True,
        show_error=True,
        max_file_size=largest,
        allowed_paths=[],
        strict_cors=True,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,  # it takes media by public URLs alone: nothing of this machine, and the page fetches nothing
        footer_links=["api", "settings"],
        **looks(),
    )
    if share and not shared:
        blocks.close(verbose=False)
        raise OSError("--share: Gradio's tunnel could not be opened; is there network? Without it, use --host")
    return Served(shared or url, blocks)


def free_port(host: str, port: int | None) -> int:
    """The port to serve on, found before any page is made: Gradio knows one failure alone, and names its own remedy.

    Args:
        host: the address to bind to.
        port: see `serve`.

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
