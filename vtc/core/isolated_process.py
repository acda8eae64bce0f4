"""Start another Python that imports from where this one does, and never from the current folder."""

from __future__ import annotations

import json
import os
import site
import sys
from pathlib import Path

START = (
    "import json, site, sys; given = json.loads(sys.argv.pop(1)); given['user'] and site.addsitedir(given['user']); "
    "sys.path[:] = given['path']; from {module} import main; main()"
)
"""What the child runs. Until it has the parent's path, it has that of its own installation alone."""


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a Python that calls `main` of `module`, a module of this package.

    `-c` and `-m` put the current folder first on the import path, so that a `json.py` in a folder of downloaded videos
    would be run (CWE-427). The child is isolated (`-I`) instead, and given `import_path`. PYTHONPATH, PYTHONHOME and
    the like are not read again: what they brought is on the parent's path.

    Args:
        module: a full name.
        arguments: `sys.argv[1:]` of the child.

    Raises:
        OSError: no Python is known to start.
    """
    if not sys.executable:
        raise OSError("sys.executable names no Python to start as a child; set it to the path of one")
    # Packages installed for the user alone may be found by files that `-I` leaves out.
    user = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    given = json.dumps({"path": import_path(), "user": user})
    # What file names are made of, and whether bytecode is written, comes by the environment too, which `-I` ignores.
    flags = ["-I", "-X", f"utf8={sys.flags.utf8_mode}", *(["-B"] if sys.dont_write_bytecode else [])]
    return [sys.executable, *flags, "-c", START.format(module=module), given, *arguments]


def import_path() -> list[str]:
    """The folders and archives of `sys.path` that mean the same whatever the current folder is.

    An empty or relative entry means another folder whenever that changes, and is left out; where this package itself
    was imported through one, its folder comes last. Entries that are no text are left out, as imports ignore them.
    """
    given = [entry for entry in sys.path if isinstance(entry, str)]
    kept = [entry for entry in given if os.path.isabs(entry)]
    home = str(Path(__file__).absolute().parents[2])
    return kept if len(kept) == len(given) or home in kept else [*kept, home]
