"""Deprecated: the names of `vtc.core.tokens`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.core.tokens")
