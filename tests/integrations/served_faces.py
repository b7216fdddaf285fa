"""Folders of pictures that several tests of servers share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from helpers import DETECT, ZOOM
from PIL import Image
from skimage.data import astronaut

FACE = "happiness/face.png"
LOOKS = (("detect_align", {}), ("zoom_in", {"regions": ["nose"]}))
"""The calls of DETECT and ZOOM."""
TEXTS = (DETECT, ZOOM)


def hostile_folder(folder: Path) -> Path:
    """Make a root with one labelled face and everything that must not be read; return the root."""
    root = folder / "root"
    (root / "happiness").mkdir(parents=True)
    Image.fromarray(astronaut()[:256, 64:320]).save(root / FACE)
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(root / "grey.png")
    outside = folder / "outside"
    outside.mkdir()
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(outside / "secret.png")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "inner.png").symlink_to(root / "grey.png")
    (root / "away").symlink_to(outside)
    (root / ".hidden").mkdir()
    Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(root / ".hidden" / "own.png")
    (root / "text.png").write_text("no picture")
    (root / "huge.png").write_bytes(b"\x89PNG" + b"0" * 2**21)
    os.mkfifo(root / "pipe.png")
    return root


HOSTILE = (
    "../outside/secret.png", "happiness/../../outside/secret.png", "/etc/passwd", "//etc/passwd", "link.png",
    "inner.png", "away/secret.png", ".hidden/own.png", "pipe.png", "happiness", "", ".", "..", "a\0b.png",
    "C:/Windows/win.ini", "C:\\secret.png", "..\\outside\\secret.png", "file:///etc/passwd", "~/secret.png",
    "x" * 5000, "a//b.png", "nowhere.png", "grey.png/more.png", "happiness/\u202eface.png", "%2e%2e/outside/secret.png",
)  # fmt: skip
"""Paths that must give one line and no pixel."""
