"""Facts about the machine for the benchmarks: its memory, on Linux and macOS, and a line that names it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

MIB = 2**20


def resident() -> float:
    """Resident memory of this process, in MiB; where the system does not tell (macOS), the most that it ever was."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak()
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def private() -> float:
    """Memory of this process that is its own, in MiB: without the pages of files, which the system may drop.

    Where the system does not tell (macOS) it is `resident`.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resident()
    fields = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0]) / 2**10


def peak() -> float:
    """Most resident memory that this process had, in MiB."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 2**10  # macOS counts bytes, Linux KiB


def machine() -> str:
    """Return the processor and its number of cores, as the system names them."""
    try:
        listed = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        name = re.search(r"Model name:\s*(.+)", listed)
    except (OSError, subprocess.CalledProcessError):
        name = None
    return f"{os.cpu_count()} cores of {name[1].strip() if name else platform.machine()}"


def describe(*packages: str) -> str:
    """Return a line with the processor, the cores, Python, the versions of packages, and the load."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    kind = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{kind}, {versions}\nload before the start: {load}"
