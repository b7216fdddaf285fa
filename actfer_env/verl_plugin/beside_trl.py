"""Lets verl 0.9.1 run where a newer TRL is installed: it asks TRL for a model with a value head, which 1.16 has not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def install() -> None:
    """Let verl take TRL for absent where TRL lacks that model; calling it again changes nothing."""
    from verl.models.transformers import monkey_patch
    from verl.utils import model

    for module in (monkey_patch, model):
        module.is_trl_available = _with_value_head(module.is_trl_available)


def _with_value_head(found: Callable[[], bool]) -> Callable[[], bool]:
    def available() -> bool:
        return found() and any(_has(name) for name in ("trl.experimental.ppo", "trl"))

    return available


def _has(name: str) -> bool:
    try:
        return hasattr(import_module(name), "AutoModelForCausalLMWithValueHead")
    except ImportError:
        return False
