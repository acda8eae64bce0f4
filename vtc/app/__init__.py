"""A page in the browser on which a model answers with all visual tokens and with fewer, side by side: `vtc app`.

Gradio is imported by the modules of the page alone (`page`, `serve` and the tabs); all else here works without it.
"""
