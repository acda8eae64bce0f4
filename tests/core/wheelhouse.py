"""A folder of wheels that pip takes for its index, so that downloads are tested without a network."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vtc.core.wheels import Wheel


def build(folder: Path, name: str, version: str, files: Mapping[str, bytes]) -> Wheel:
    """Write a wheel that holds `files` into `folder`, and return what pins it."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    path = folder / f"{stem}-{version}-py3-none-any.whl"
    entries = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as made:
        for entry, content in entries.items():
            made.writestr(entry, content)
        made.writestr(f"{info}/RECORD", "".join(f"{entry},,\n" for entry in (*entries, f"{info}/RECORD")))
    content = path.read_bytes()
    return Wheel(name, version, hashlib.sha256(content).hexdigest(), len(content), "MIT")
