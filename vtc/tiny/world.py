"""Deprecated: the names of `vtc.embedded.scene`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.embedded.scene", {"WATCH": "VALIDATION"})
