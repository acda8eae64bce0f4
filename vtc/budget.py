"""Deprecated: the names of `vtc.core.budget`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.core.budget")
