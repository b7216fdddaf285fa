"""Trained agents and their environments: how sizes are told, and refused where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import spaces

from actfer_env.identity import refuse_other


def observed_sizes(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return the arguments of `ActFEREnv` that single observations tell.

    Args:
        shapes: Key of the observation -> shape of one value; pictures may be HWC or CHW.

    Returns:
        `image_size`, `face_size`, `crop_size`, and `max_zooms` (at least 1).
    """
    sides = {"image_size": "image", "face_size": "face", "crop_size": "crop_0"}
    found: dict[str, Any] = {name: max(shapes[key]) for name, key in sides.items() if key in shapes}
    return found | {"max_zooms": sum(key.startswith("crop_") and key[5:].isdecimal() for key in shapes)}


def env_facts(env: Any) -> dict[str, Any]:
    """Return the arguments of `ActFEREnv` by which an environment, single or vector, was made, as far as it tells."""
    seen = getattr(env, "single_observation_space", env.observation_space)
    if not isinstance(seen, spaces.Dict):
        return {"observation": type(seen).__name__}
    found = observed_sizes({key: tuple(space.shape or ()) for key, space in seen.items()})
    if isinstance(turns := seen.get("turns_left"), spaces.Discrete):
        found["max_turns"] = int(turns.n) - 1
    base = getattr(env, "unwrapped", env)
    if (units := getattr(base, "au_set", None)) is not None:
        found["au_set"] = tuple(units)
    spec = getattr(getattr(base, "tools", None), "spec", None)
    if isinstance(spec, str) and spec != "auto" and not spec.startswith("cached"):
        found["detector"] = spec
    return found


def check_trained(name: str, wanted: Mapping[str, Any], env: Any) -> None:
    """Compare an environment with that of an agent's training.

    Args:
        name: The agent's folder or file.
        wanted: Arguments of `ActFEREnv` in training.
        env: The environment, single or vector.

    Raises:
        DataError: they differ; the message names every argument that does.
    """
    found = env_facts(env)
    if "observation" in found:
        wanted = {"observation": "Dict"}
    shared = [key for key in found if key in wanted]
    kept = {key: wanted[key] for key in shared}
    if "max_zooms" in kept:
        kept["max_zooms"] = max(kept["max_zooms"], 1)  # the observation has one slot at least
    refuse_other(name, "policy", kept, {key: found[key] for key in shared})
