"""Decoding libraries by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from .backend import Backend

HOMES = {
    "pyav": ("av", "pyav", "PyAV"),
    "decord": ("decord", "decord", "Decord"),
    "opencv": ("cv2", "opencv", "OpenCV"),
    "torchcodec": ("torchcodec", "torchcodec", "TorchCodec"),
}
PACKAGES = {"pyav": "av", "decord": "decord2", "opencv": "opencv-python-headless", "torchcodec": "torchcodec"}


def available() -> tuple[str, ...]:
    """The names of backends whose library is installed."""
    return tuple(name for name, (module, _, _) in HOMES.items() if find_spec(module) is not None)


def check_backend(name: str) -> None:
    """Raise ValueError unless `name` is that of a backend whose library is installed."""
    if name not in HOMES:
        raise ValueError(f"backend={name!r} is not known; one of {', '.join(HOMES)}")
    if name not in available():
        raise ValueError(f"backend={name!r} is not installed; `pip install {PACKAGES[name]}`, or use backend='pyav'")


def backend_class(name: str) -> type[Backend]:
    """The backend of that name; its library is imported here and not before.

    Raises:
        ValueError: as `check_backend`, or the library does not load.
    """
    check_backend(name)
    _, module, kind = HOMES[name]
    try:
        return getattr(import_module(f".{module}", __package__), kind)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(f"backend={name!r} does not load ({error}); use backend='pyav'") from error
