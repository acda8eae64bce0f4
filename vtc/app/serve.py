"""Serving the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vtc.core.ports import LOOPBACK, free_port

from .page import LARGEST, looks, page
from .state import AppState


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
