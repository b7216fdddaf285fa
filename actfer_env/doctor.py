"""`actfer doctor`: what is installed, and what is missing for what."""

from __future__ import annotations

import platform
from importlib import metadata

from rich.table import Table

from actfer_env._version import __version__
from actfer_env.packages import PACKAGES, explain


def package_table() -> Table:
    """Return the versions of what this package builds on."""
    title = f"actfer-env {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    table = Table("package", "version", "how to get it", title=title)
    for name, extra in PACKAGES.items():
        version = _version(name)
        cure = "" if version else f'pip install "actfer-env\\[{extra}]"'
        table.add_row(name, version or "not installed", cure)
    broken = _opencv_fault()
    if broken:
        table.add_row("cv2", "cannot be loaded", broken)
    if _version("opencv-python-headless"):
        table.add_row(
            "opencv-python-headless", _version("opencv-python-headless"), "clashes with opencv-python: remove it"
        )
    return table


def detector_table() -> Table:
    """Return which detectors are ready, and what the others lack."""
    table = Table("detector", "ready", "note", title="Detectors")
    try:
        from actfer_env.tools.detectors import available_detectors
    except ImportError as error:
        table.add_row("all", "no", explain(error))
        return table
    for status in available_detectors():
        table.add_row(status.name, "yes" if status.ready else "no", status.detail.replace("[", "\\["))
    return table


def _opencv_fault() -> str | None:
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        return explain(error)
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
