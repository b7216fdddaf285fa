"""Checks that third parties can run on their own parts: each raises AssertionError with a line that helps."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from actfer_env.agents.base import Agent
from actfer_env.tools.detectors.base import Detector, Face

Image = NDArray[np.uint8]

ASTRONAUT_EYES = np.array([[203.0, 101.5], [247.0, 103.5]])
"""Eye centres (left, right; x, y) on `skimage.data.astronaut()`, noted by hand."""

_TOLERANCE = 0.1  # of the inter-ocular distance
_REPEAT = 1e-2  # pixels by which two calls may differ: rounding on a GPU


def check_detector(detector: Any, image: Image | None = None) -> None:
    """Check that a detector keeps the contract of `actfer_env.tools.detectors.Detector`.

    It must have a name, return well-formed faces, leave the image alone, give the same answer twice, and stand
    blank, noisy and tiny images. Without `image` it must also find the one face of `skimage.data.astronaut()`,
    which needs no network, with its eyes within a tenth of their distance.

    Args:
        detector: the detector.
        image: RGB uint8 (H, W, 3) to try instead of the astronaut, with any number of faces.

    Raises:
        AssertionError: the contract is broken; the message says where.

    Example:
        >>> from actfer_env.tools.detectors import make_detector
        >>> check_detector(make_detector("mtcnn"))
    """
    _require(isinstance(getattr(detector, "name", None), str), "a detector needs a string attribute 'name'")
    _require(callable(getattr(detector, "detect", None)), f"{detector.name}: needs a method detect(image)")
    for label, sample in _probes().items():
        _check_call(detector, sample, label)
    if image is not None:
        _check_call(detector, image, "the given image")
        return
    _check_astronaut(detector)


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _probes() -> dict[str, Image]:
    noise = np.random.default_rng(0).integers(0, 256, (160, 120, 1), np.uint8)
    return {
        "a blank image": np.full((120, 160, 3), 127, np.uint8),
        "grey noise": np.repeat(noise, 3, axis=2),
        "a 16 x 16 image": np.zeros((16, 16, 3), np.uint8),
    }


def _check_call(detector: Detector, image: Image, label: str) -> list[Face]:
    """Detect twice on copies of the image, check what comes back, and return it."""
    where = f"{detector.name} on {label}"
    mine = image.copy()
    faces = detector.detect(mine)
    _require(np.array_equal(mine, image), f"{where}: detect() changed the image; work on a copy")
    _require(isinstance(faces, list), f"{where}: detect() returned {type(faces).__name__}, not a list of Face")
    for index, face in enumerate(faces):
        _check_face(face, f"{where}, face {index}")
    again = detector.detect(image.copy())
    _require(_same(faces, again), f"{where}: two calls differ; fix seeds, threads and the order of the faces")
    return faces


def _check_face(face: Any, where: str) -> None:
    _require(isinstance(face, Face), f"{where}: is a {type(face).__name__}, not an actfer_env Face")
    _require(isinstance(face.box, tuple) and len(face.box) == 4, f"{where}: box must be a tuple (x1, y1, x2, y2)")
    _require(np.isfinite(face.box).all(), f"{where}: box {face.box} is not finite")
    x1, y1, x2, y2 = face.box
    _require(x1 < x2 and y1 < y2, f"{where}: box {face.box} must have x1 < x2 and y1 < y2")
    _check_points(face.landmarks, 5, f"{where}: landmarks")
    if face.landmarks_106 is not None:
        _check_points(face.landmarks_106, 106, f"{where}: landmarks_106")
    _require(0 <= face.score <= 1, f"{where}: score {face.score} lies outside [0, 1]")
    _require(_is_json(face.meta), f"{where}: meta must be a dict of JSON values")


def _check_points(points: Any, count: int, where: str) -> None:
    _require(isinstance(points, np.ndarray), f"{where} must be an array, got {type(points).__name__}")
    _require(points.shape == (count, 2), f"{where} must have shape ({count}, 2), got {points.shape}")
    _require(points.dtype.kind == "f", f"{where} must be floats, got {points.dtype}")
    _require(np.isfinite(points).all(), f"{where} are not finite")


def _is_json(meta: Any) -> bool:
    try:
        json.dumps(meta)
    except (TypeError, ValueError):
        return False
    return isinstance(meta, dict)


def _same(first: list[Face], second: list[Face]) -> bool:
    return len(first) == len(second) and all(
        np.allclose(a.box, b.box, rtol=0, atol=_REPEAT)
        and np.allclose(a.landmarks, b.landmarks, rtol=0, atol=_REPEAT)
        and abs(a.score - b.score) < 1e-3
        for a, b in zip(first, second, strict=True)
    )


def _check_astronaut(detector: Detector) -> None:
    from skimage.data import astronaut

    faces = _check_call(detector, astronaut(), "the astronaut")
    _require(len(faces) == 1, f"{detector.name}: found {len(faces)} faces on the astronaut, which shows one")
    eyes, distance = faces[0].landmarks[:2], np.linalg.norm(ASTRONAUT_EYES[1] - ASTRONAUT_EYES[0])
    error = np.linalg.norm(eyes - ASTRONAUT_EYES, axis=1).max() / distance
    _require(
        error <= _TOLERANCE,
        f"{detector.name}: eyes of the astronaut at {np.round(eyes, 1).tolist()} instead of "
        f"{ASTRONAUT_EYES.tolist()}, off by {error:.0%} of their distance (at most {_TOLERANCE:.0%}); check the order "
        "of the landmarks, RGB against BGR, and the scaling back",
    )


def check_agent(agent: Agent, env: gym.Env[Any, Any], episodes: int = 8) -> None:
    """Check that an agent keeps the contract of `actfer_env.agents.Agent` in an environment of this package.

    It must act within the action space for a single environment and for batches of a vector environment, leave the
    observation alone, and cope with episodes that end.

    Args:
        agent: the agent.
        env: what it was made for, from `gym.make`.
        episodes: single episodes to play.

    Raises:
        AssertionError: the contract is broken; the message says where.

    Example:
        >>> import gymnasium as gym
        >>> from actfer_env.agents import RandomAgent
        >>> env = gym.make("ActFER-Discrete-v0")
        >>> check_agent(RandomAgent(env.action_space, seed=0), env)
    """
    for method in ("reset", "act"):
        _require(callable(getattr(agent, method, None)), f"an agent needs a method {method}")
    for seed in range(episodes):
        _check_episode(agent, env, seed)
    _check_batch(agent, env)


def _check_episode(agent: Agent, env: gym.Env[Any, Any], seed: int) -> None:
    agent.reset(1)
    obs, info = env.reset(seed=seed)
    while "rollout" not in info:
        before = {key: np.array(value) for key, value in obs.items()}
        action = agent.act(obs, info)
        same = all(np.array_equal(before[key], obs[key]) for key in before)
        _require(same, "act changed the observation that it was given")
        _require(action in env.action_space, f"act returned {action!r}, which is not in {env.action_space}")
        obs, _, _, _, info = env.step(action)


def _check_batch(agent: Agent, env: gym.Env[Any, Any], n: int = 3, steps: int = 12) -> None:
    envs = gym.vector.SyncVectorEnv([lambda: _remake(env)] * n)
    agent.reset(n)
    obs, info = envs.reset(seed=0)
    for _ in range(steps):
        actions = agent.act(obs, info)
        _require(
            actions in envs.action_space, f"act returned {actions!r} for {n} environments: not in {envs.action_space}"
        )
        obs, _, _, _, info = envs.step(actions)


def _remake(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    _require(env.spec is not None, "check_agent needs an environment that comes from gym.make")
    return gym.make(env.spec)  # type: ignore[arg-type]
