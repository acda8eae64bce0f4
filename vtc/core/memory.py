"""How much memory is free, asked before much of it is taken."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
"""Of a container: its memory may be less than the machine's."""
_INTERFACES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def room() -> int | None:
    """Bytes that can be taken without any other process losing memory; None where the system does not say."""
    known = [value for value in (_of_machine(), _of_group()) if value is not None]
    return min(known, default=None)


def check_room(needed: int, what: str, remedy: str) -> None:
    """Refuse what does not fit, before any of it is taken: Linux would give the memory, and end the process later.

    Raises:
        MemoryError: `what` needs more bytes than there is room for; the message ends in `remedy`.
    """
    free = room()
    if free is not None and needed > free:
        raise MemoryError(f"{what} take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; {remedy}")


def _of_machine() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _of_group() -> int | None:
    """Of the group of processes that this one is in, by either version of the kernel's interface."""
    for folder, most, used, files in _INTERFACES:
        try:
            limit, now = ((_GROUPS / folder / name).read_text().strip() for name in (most, used))
            stat = dict(line.split() for line in (_GROUPS / folder / "memory.stat").read_text().splitlines())
            if limit != "max":
                # What the group holds of files can be given back, and is no use of memory.
                return max(0, int(limit) - int(now) + int(stat.get(files, 0)))
        except (OSError, ValueError):
            continue
    return None
