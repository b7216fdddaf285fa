"""Settings and fixtures that the tests share; their builders stand in helpers.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from hypothesis import settings

# A slow or busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def photo_points() -> dict[str, dict[str, Any]]:
    """Points noted by hand: photo -> name -> [x, y] or None; see the file's comment."""
    data = json.loads((ROOT / "tests" / "data" / "photo_points.json").read_text(encoding="utf-8"))
    return {stem: points for stem, points in data.items() if not stem.startswith("_")}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch: exact sums do not depend on the machine then."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Qwen3-VL with random weights, a brief prompt and a small vocabulary."""
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build

    return build(tmp_path_factory.mktemp("model") / "m", TinyQwenConfig(brief=True, max_pixels=64 * 64, vocabulary=900))
