"""Deprecated: the names of `vtc.inference.prompting`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.inference.prompting")
