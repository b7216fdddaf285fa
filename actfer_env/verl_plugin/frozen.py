"""Makes verl keep ``actor_rollout_ref.actor.freeze_vision_tower``, which 0.9.1 reads and its FSDP engine ignores."""

from __future__ import annotations

import functools
from typing import Any

_FLAG = "actfer_frozen_tower"


def install() -> None:
    """Wrap verl's worker and FSDP engine; calling it again changes nothing."""
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
    from verl.workers.engine_workers import ActorRolloutRefWorker

    if hasattr(FSDPEngine, _FLAG):
        return
    setattr(FSDPEngine, _FLAG, False)
    begin, build = ActorRolloutRefWorker.__init__, FSDPEngine._build_module

    @functools.wraps(begin)
    def begin_and_note(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        setattr(FSDPEngine, _FLAG, bool((config.get("actor") or {}).get("freeze_vision_tower", False)))
        begin(self, config, *args, **kwargs)

    @functools.wraps(build)
    def build_and_freeze(self: Any) -> Any:
        module = build(self)
        if getattr(FSDPEngine, _FLAG):
            freeze_tower(module)
        return module

    ActorRolloutRefWorker.__init__ = begin_and_note
    FSDPEngine._build_module = build_and_freeze


def freeze_tower(module: Any) -> None:
    """Freeze a Qwen-VL's vision tower, its mergers included.

    Raises:
        ValueError: the model has no tower.
    """
    tower = getattr(getattr(module, "model", module), "visual", None)
    if tower is None:
        raise ValueError(f"actor.freeze_vision_tower: {type(module).__name__} has no vision tower; leave it at False")
    tower.requires_grad_(False)
