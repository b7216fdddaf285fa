"""What the tests share: the folder of photos and weights that lies beside the project, where there is one."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# A slow or busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ("astronaut", "biden", "multi_face", "obama", "obama2", "obama_partial_face", "two_people")


def shared_path(*parts: str) -> Path:
    """Return a path in the shared folder, or skip the test: ACTFER_SHARED, else ../shared from the root."""
    folder = Path(os.environ.get("ACTFER_SHARED") or ROOT.parent / "shared")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared folder, which is not part of the project")
    return path


def photo_path(stem: str) -> Path:
    """Return a test photo's file, or skip the test."""
    return next(shared_path("photos").glob(f"{stem}.*"))


@lru_cache
def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    image.setflags(write=False)
    return image


def photo(stem: str) -> NDArray[np.uint8]:
    """Return a test photo as RGB uint8, or skip the test."""
    return _read(photo_path(stem)).copy()


@pytest.fixture(scope="session")
def photo_points() -> dict[str, dict[str, Any]]:
    """Points noted by hand: photo -> name -> [x, y] or None; see the file's comment."""
    data = json.loads((ROOT / "tests" / "data" / "photo_points.json").read_text(encoding="utf-8"))
    return {stem: points for stem, points in data.items() if not stem.startswith("_")}
