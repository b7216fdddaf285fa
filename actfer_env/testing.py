"""Checks that third parties can run on their own parts: each raises AssertionError with a line that helps."""

from __future__ import annotations

import importlib.util
import json
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from actfer_env.agents.base import Agent
from actfer_env.errors import ActFERError
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
        detector: The detector.
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


def check_tool(tool: Any) -> None:
    """Check that a tool keeps the contract of `actfer_env.tools.Tool`.

    It is played on a drawn face, in all coordinates. Its schema must be a JSON schema; calls that the schema allows
    must succeed, and those that it forbids be refused with one line. It must give the same answer twice, leave the
    episode and its picture alone, return sound pictures (uint8, H x W x 3) and boxes (within 0 and 1), describe a call
    in one line, and travel by pickle.

    Args:
        tool: The tool, or the name of a registered one.

    Raises:
        AssertionError: the contract is broken; the message says where.

    Example:
        >>> check_tool("zoom_in")
    """
    from actfer_env.tools.toolkit import make_tool
    from actfer_env.tools.wire import Wire

    try:
        made = make_tool(tool)
        again = make_tool(pickle.loads(pickle.dumps(tool)))
        hash(tool)
    except Exception as error:
        raise AssertionError(f"{tool!r} is no tool that travels: {error}") from error
    _require(isinstance(made.looks_closer, bool), f"{made.name}: looks_closer must be True or False")
    for coordinates, face in (("relative_1000", 224), ("pixels", 224), ("unit", 0)):
        wire = Wire(coordinates, face, (224, 224))  # type: ignore[arg-type]
        schema = _check_schema(made, made.schema(wire))
        _require(again.schema(wire) == made.schema(wire), f"{made.name}: its schema changes when it is pickled")
        _require("\n" not in made.guide(wire), f"{made.name}: guide() must be one paragraph")
        allowed = _allowed_calls(made, schema, face or 1)
        for arguments in allowed:
            _check_allowed(made, tool, arguments, wire)
        for arguments in _forbidden_calls(allowed[0], schema):
            episode = _episode_for(made, tool, wire)
            where = f"{made.name}: the call {arguments}, which its schema forbids,"
            try:
                result = episode.call(made.name, arguments)
            except Exception as error:
                raise AssertionError(f"{where} fails: {type(error).__name__}: {error}") from error
            _require(result.violation == "bad_arguments", f"{where} was not refused as bad_arguments")
            _require("\n" not in result.message, f"{where} was refused in several lines")


def _check_schema(tool: Any, schema: Any) -> dict[str, Any]:
    """Check a function schema, and return that of the arguments."""
    _require(_is_json(schema), f"{tool.name}: schema() must return a dict of JSON values")
    function = schema.get("function", {})
    right = schema.get("type") == "function" and function.get("name") == tool.name
    _require(
        right, f'{tool.name}: its schema must be {{"type": "function", "function": {{"name": "{tool.name}", ...}}}}'
    )
    _require(function.get("description"), f"{tool.name}: its schema needs a description, which the policy reads")
    found: dict[str, Any] = function.get("parameters", {})
    closed = found.get("type") == "object" and found.get("additionalProperties") is False
    _require(closed, f"{tool.name}: its parameters must be an object with additionalProperties false")
    unknown = set(found.get("required", ())) - set(found.get("properties", {}))
    _require(not unknown, f"{tool.name}: requires {sorted(unknown)}, which are no properties")
    if importlib.util.find_spec("jsonschema"):
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(found)
        except jsonschema.SchemaError as error:
            raise AssertionError(f"{tool.name}: its parameters are no JSON schema: {error.message}") from error
    return found


def _value(schema: dict[str, Any], side: float) -> Any:
    """Return a value that a schema allows; four numbers are a box."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind in ("number", "integer"):
        return schema.get("minimum", min(schema.get("maximum", 1), 1))
    if kind == "array":
        items, count = schema.get("items", {}), max(schema.get("minItems", 1), 1)
        if count == 4 and items.get("type") in ("number", "integer"):
            most = items.get("maximum", side)
            return [most // 4 if most > 4 else most / 4] * 2 + [most // 2 if most > 4 else most / 2] * 2
        return [_value(items, side) for _ in range(count)]
    return {"boolean": True, "object": {}, "null": None}.get(kind, "a text")


def _allowed_calls(tool: Any, schema: dict[str, Any], side: float) -> list[dict[str, Any]]:
    """Return calls that a schema allows: the tool's example (or what is required), and each argument with it."""
    known = schema.get("properties", {})
    least = dict(tool.example) or {key: _value(known[key], side) for key in schema.get("required", ())}
    calls = [least]
    for key, part in known.items():
        values = [*part.get("enum", ())] or [_value(part, side), *([part["maximum"]] if "maximum" in part else [])]
        calls += [{**least, key: value} for value in values]
    return calls


def _forbidden_calls(allowed: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    """Return calls that a schema forbids: no mapping, an unknown key, a missing one, and wrong values."""
    calls: list[Any] = [[1, 2], {**allowed, "no_such_argument": 1}]
    calls += [{k: v for k, v in allowed.items() if k != key} for key in schema.get("required", ())]
    for key, part in schema.get("properties", {}).items():
        kinds = part.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and "object" not in kinds:
            calls.append({**allowed, key: {"no": "such value"}})
        if "enum" in part:
            calls.append({**allowed, key: "no such choice"})
        if {"number", "integer"} & set(kinds):
            calls.append({**allowed, key: float("nan")})
            calls += [{**allowed, key: part["maximum"] + 1}] if "maximum" in part else []
            calls += [{**allowed, key: part["minimum"] - 1}] if "minimum" in part else []
    return calls


def _episode_for(tool: Any, spec: Any, wire: Any) -> Any:
    """Return an episode in which the tool may be called, on a drawn face."""
    from actfer_env.data import load_dataset
    from actfer_env.episode import Episode, EpisodeConfig
    from actfer_env.tools import FaceTools
    from actfer_env.tools.base import DEFAULT_TOOLS

    global _tools  # noqa: PLW0603  (its pictures are decoded and aligned once)
    _tools = _tools or FaceTools("simulated")
    others = tuple(name for name in DEFAULT_TOOLS if name != tool.name)
    sample = load_dataset("synthetic", split="train", n=1, preset="easy")[0]
    episode = Episode(sample, _tools, EpisodeConfig(tools=(*others, spec)))
    episode.wire = wire
    if not tool.legal(episode):
        episode.detect_align()
    legal = tool.legal(episode)
    _require(legal, f"{tool.name}: legal() allows it neither before nor after the face is aligned")
    return episode


_tools: Any = None


def _check_allowed(tool: Any, spec: Any, arguments: dict[str, Any], wire: Any) -> None:
    """Run a call twice, check what it brings and that it leaves the episode alone, and play it."""
    where = f"{tool.name}: the call {arguments}"
    outputs = []
    for _ in range(2):
        episode = _episode_for(tool, spec, wire)
        image = episode.tools.image(episode.sample)
        before = _state_of(episode, image)
        try:
            outputs.append(tool.run(episode, **arguments))
        except Exception as error:
            raise AssertionError(f"{where}, which its schema allows, fails: {type(error).__name__}: {error}") from error
        same = before == _state_of(episode, image)
        _require(same, f"{where} changes the episode or its picture; return what it found as a ToolOutput")
    first = outputs[0]
    message = getattr(first, "message", "")
    _require(isinstance(message, str) and message.strip() and "\n" not in message, f"{where}: message must be one line")
    _require(_is_json(first.result), f"{where}: result must be a dict of JSON values")
    _require(_is_json(tool.tell(first, wire)), f"{where}: tell() must return a dict of JSON values")
    facts = [(one.message, tuple(map(tuple, one.boxes)), json.dumps(one.result)) for one in outputs]
    pictures = [[picture.tobytes() for picture in one.pictures] for one in outputs]
    _require(facts[0] == facts[1] and pictures[0] == pictures[1], f"{where} gives two answers; fix seeds and threads")
    try:
        result = episode.call(tool.name, arguments)
    except ActFERError as error:
        raise AssertionError(f"{where}: {error}") from error
    _require(result.legal, f"{where}, which its schema allows, is refused: {result.message}")
    line = tool.describe(episode.last)
    _require(isinstance(line, str) and line.strip() and "\n" not in line, f"{where}: describe() must return one line")
    for title, picture in tool.draw(episode.last, image, episode.alignment, 96) or ():
        sound = isinstance(title, str) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        _require(sound, f"{where}: draw() must give titles and uint8 (H, W, 3) pictures")


def _state_of(episode: Any, image: Image) -> tuple[Any, ...]:
    held = (episode.state, episode.turn, episode.detection, id(episode.alignment), len(episode.crops))
    return (*held, len(episode.calls), episode.wire, episode.legal_regions(), hash(image.tobytes()))


def check_agent(agent: Agent, env: gym.Env[Any, Any], episodes: int = 8) -> None:
    """Check that an agent keeps the contract of `actfer_env.agents.Agent` in an environment of this package.

    It must act within the action space for a single environment and for batches of a vector environment, leave the
    observation alone, and cope with episodes that end.

    Args:
        agent: The agent.
        env: Environment that it was made for, from `gym.make`.
        episodes: Single episodes to play.

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
    spec = env.spec
    _require(spec is not None, "check_agent needs an environment that comes from gym.make")
    envs = gym.vector.SyncVectorEnv([lambda: gym.make(spec)] * n)  # type: ignore[arg-type]
    agent.reset(n)
    obs, info = envs.reset(seed=0)
    for _ in range(steps):
        actions = agent.act(obs, info)
        _require(
            actions in envs.action_space, f"act returned {actions!r} for {n} environments: not in {envs.action_space}"
        )
        obs, _, _, _, info = envs.step(actions)
