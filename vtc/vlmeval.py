"""Deprecated: the names of `vtc.integrations.vlmevalkit`."""

from vtc.core.moved import moved

__getattr__ = moved(__name__, "vtc.integrations.vlmevalkit", {"enrol": "register"})
