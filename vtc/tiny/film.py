"""Deprecated: the names of `vtc.embedded.video`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.embedded.video", {"Film": "Video", "WATCH": "VALIDATION"})
