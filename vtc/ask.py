"""Deprecated: the names of `vtc.inference.asking`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.inference.asking")
