"""`environments`: where TRL's episodes are played, here or on a server."""

from __future__ import annotations

import functools
from collections.abc import Callable

from actfer_env.chat import ChatConfig
from actfer_env.integrations.trl.environment import FaceEnv


def environments(
    chat: ChatConfig | None = None, url: str | None = None, detector: str = "auto"
) -> Callable[[], FaceEnv]:
    """Return what `GRPOTrainer` takes as ``environment_factory``.

    Args:
        chat: Formats and picture sizes.
        url: Address of a server of `actfer openenv` that plays the episodes, in its own formats; None plays them here.
        detector: A detector's spec, for episodes that are played here.

    Raises:
        DataError: a server is named and the package `openenv` is missing.
    """
    if url is None:
        return functools.partial(FaceEnv, detector, chat)
    from actfer_env.integrations.trl.served import ServedFaceEnv

    return functools.partial(ServedFaceEnv, url)
