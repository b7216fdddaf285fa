"""OpenEnv: the episode as a server that many clients play at a time, and its typed client. Needs `[openenv]`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actfer_env.integrations.openenv.client import FaceClient
    from actfer_env.integrations.openenv.environment import FaceEnvironment
    from actfer_env.integrations.openenv.models import FaceAction, FaceObservation, FaceState
    from actfer_env.integrations.openenv.server import openenv_app, serve

__all__ = ["FaceAction", "FaceClient", "FaceEnvironment", "FaceObservation", "FaceState", "openenv_app", "serve"]

_PLACES = {
    "FaceAction": "models", "FaceObservation": "models", "FaceState": "models", "FaceClient": "client",
    "FaceEnvironment": "environment", "openenv_app": "server", "serve": "server",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import OpenEnv when one of the names is asked for, not before: that takes seconds."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
