"""Serving the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .page import LARGEST, looks, page
from .studio import Studio

LOOPBACK = "127.0.0.1"


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
        """Ends it."""
        self.blocks.close(verbose=False)


def serve(
    studio: Studio, *, host: str = LOOPBACK, port: int | None = None, wait: bool = True, largest: str = LARGEST
) -> Served:
    """Serves the page of `studio`.

    No file of the server can be asked for but what a visitor uploaded and what was drawn for the page; nothing is sent
    elsewhere, and nothing is shared by a tunnel.

    Args:
        studio: what answers.
        host: the address to bind to; by default only this machine can reach it.
        port: None: the first free one from 7860 on; 0: any free one.
        wait: until it is interrupted.
        largest: what an upload may have at most, as "200mb"; a larger one is refused while it comes.

    Raises:
        OSError: the port is taken.
    """
    blocks = page(studio)
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=_free_port(host) if port == 0 else port,
        prevent_thread_lock=not wait,
        share=False,
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
    return Served(url, blocks)


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
