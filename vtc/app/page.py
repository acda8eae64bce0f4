"""The page: its tabs, its looks, and the limits that it is served with."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from . import batch_tab, compare_tab
from .image_tab import ImageTab
from .state import AppState
from .video_tab import VideoTab
from .wording import heading

TITLE = "vtc: fewer visual tokens"
LARGEST = "200mb"
"""Of an upload."""
WAITING = 32
"""Calls that may wait in the queue; further visitors are told to come back."""
KEPT_SECONDS = 3600
"""How long uploads and images stay on the server, and how often old ones are looked for."""
STYLE = """<style>
@media (max-width: 640px) {
  .gradio-container main.app {padding: 8px !important}
  .gradio-container .row:has(> .column) {flex-direction: column}
  .gradio-container .column {min-width: 0 !important; width: 100%; max-width: 100%}
  .gradio-container .row, .gradio-container .block, .gradio-container .form {min-width: 0; max-width: 100%}
  #timeline .image-frame, #timeline .image-container {display: block; overflow-x: auto}
  #timeline img {max-width: none; width: 900px; height: auto}
  .vtc-table th *, .vtc-table [role=gridcell], .vtc-table [role=gridcell] * {
    font-size: 10.5px !important; letter-spacing: -0.03em; padding: 1px !important;
    word-break: normal !important; overflow-wrap: normal !important;
  }
}
.gradio-container textarea:disabled, .gradio-container input:disabled {
  border-color: transparent !important; background: transparent !important; box-shadow: none !important;
  padding-left: 0 !important; opacity: 1; -webkit-text-fill-color: currentColor;
}
#timeline .image-frame {padding-top: 36px}
.vtc-gain p {font-size: 1.15em; margin: 0.2em 0}
</style>"""
"""In the page's head, since Gradio rewrites what `css` is given."""


def page(state: AppState) -> gr.Blocks:
    """Build the page of `state`; it makes no network request of its own."""
    blocks = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS))
    with blocks:
        gr.Markdown(_heading(state))
        tabs = (
            ("Image", ImageTab(state).build),
            ("Video", VideoTab(state).build),
            ("Compare", partial(compare_tab.build, state)),
            ("Batch", partial(batch_tab.build, state)),
        )
        for name, build in tabs:
            with gr.Tab(name):
                build()
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1)


def looks() -> dict[str, Any]:
    """Arguments of `launch` for the looks: the browser's own fonts, since a page must need no network."""
    fonts = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    theme = gr.themes.Default(font=fonts, font_mono=("ui-monospace", "Consolas", "monospace"))
    return {"theme": theme, "head": STYLE}


def _heading(state: AppState) -> str:
    models = heading(state.image_model.name, state.video_model.name)
    return f"# {TITLE}\nThe same question, answered from all visual tokens and from a part of them. {models}"
