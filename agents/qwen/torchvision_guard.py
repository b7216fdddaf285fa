"""torchvision's CUDA build beside a CPU torch, as package indexes serve it: transformers cannot be imported there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HELD: list[Any] = []


def guard() -> None:
    """Let such a torchvision be imported; without torchvision, or with one that fits, do nothing.

    It looks two operators' schemas up at import and finds none. They are declared here; nothing in this project calls
    them.
    """
    try:
        import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _HELD.append(library)
