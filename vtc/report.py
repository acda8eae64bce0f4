"""Deprecated: the names of `vtc.reduction.report`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.reduction.report")
