"""Deprecated: the names of `vtc.inference.loading`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.inference.loading")
