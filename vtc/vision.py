"""Deprecated: the names of `vtc.reduction.vision_encoder`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.reduction.vision_encoder")
