"""Copies and pickles keep their settings: tools, detectors, agents, environments, errors, configurations."""

import copy
import dataclasses
import importlib
import pickle
import pkgutil
from functools import lru_cache

import gymnasium as gym
import numpy as np
import pytest

import actfer_env.agents
import actfer_env.wrappers
from actfer_env import errors
from actfer_env.agents import make_agent
from actfer_env.agents.base import Usage
from actfer_env.data import load_dataset
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.tools import FaceTools, make_detector
from actfer_env.tools.detectors.mtcnn import MTCNNDetector
from actfer_env.tools.detectors.simulated import SimulatedConfig, SimulatedDetector
from actfer_env.tools.face_tools import CacheConfig
from actfer_env.tools.template import TEMPLATE
from actfer_env.tools.zoom import ZoomConfig
from actfer_env.wrappers import GroupVectorEnv, RecordRollouts

FACES = load_dataset("synthetic", split="test", n=2)
WAYS = pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
    ids=["copy", "deepcopy", "pickle"],
)  # fmt: skip
ZOOM = ZoomConfig(size=64, stretch=True)


class MirrorTools(FaceTools):
    """Tools of somebody else, with a setting of their own."""

    def __init__(self, *args, mirror=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.mirror = mirror


def tools(kind=FaceTools, **more):
    template = dataclasses.replace(TEMPLATE)
    return kind("simulated", zoom=ZOOM, template=template, face=1, cache=CacheConfig(images=3), **more)


def settings_of_tools(found):
    own = {"zoom": found.zoom, "face": found.choice, "cache": found._config, "spec": found._spec, "kind": type(found)}
    return own | {"points": found.template.points.tolist(), "mirror": getattr(found, "mirror", None)}


@WAYS
def test_tools_keep_their_settings(again):
    assert settings_of_tools(again(tools())) == settings_of_tools(tools())


@WAYS
def test_tools_of_others_keep_class_and_settings(again):
    made = tools(MirrorTools, mirror=True)
    assert settings_of_tools(again(made)) == settings_of_tools(made)
    assert again(made).image(FACES[0]).tolist() == made.image(FACES[0]).tolist()


def test_a_copy_of_tools_has_a_cache_of_its_own():
    made = tools()
    made.image(FACES[0])
    other = copy.copy(made)
    assert other._images is not made._images and other._lock is not made._lock


@WAYS
def test_view_tools_keep_the_size_of_their_crops(again, tmp_path):
    pytest.importorskip("torch")
    from actfer_env.data.views import ViewConfig, ViewTools, prepare

    config = ViewConfig(crop_size=64, face_size=32, detector="simulated")
    made = ViewTools(FACES, prepare(FACES, tmp_path, config, workers=1), config)
    other = again(made)
    assert other.zoom == made.zoom and other.zoom.size == 64 and other._spec == "simulated"
    sample = next(one for one in FACES if made.alignment(one) is not None)
    alignment = made.alignment(sample)
    box = (0.1, 0.1, 0.6, 0.6)
    assert other.crop(sample, alignment, box, None).image.shape == (64, 64, 3)


@WAYS
@pytest.mark.parametrize(
    "made",
    [
        SimulatedDetector(SimulatedConfig(min_eyes=50.0)), make_detector("auto"), make_detector("unturned:simulated"),
        MTCNNDetector(min_face=33),
    ],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
def test_detectors_keep_their_settings(again, made):
    other = again(made)
    assert type(other) is type(made) and other.name == made.name
    assert getattr(other, "turns", None) == getattr(made, "turns", None)
    assert getattr(other, "settings", dict)() == getattr(made, "settings", dict)()


@WAYS
@pytest.mark.parametrize("spec", ["full:truth", "simplified:fear", "random:unmasked", "blind"])
def test_agents_go_on_as_they_were(again, spec):
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES).unwrapped
    agent = make_agent(spec, env.action_space, dataset=FACES, seed=5)
    obs, info = env.reset(seed=0, options={"sample": 0})
    agent.reset(1)
    agent.act(obs, info)
    other = pickle.loads(pickle.dumps(again(agent)))  # a plain copy shares the stream of random numbers
    assert [np.asarray(agent.act(obs, info)).tolist() for _ in range(4)] == [
        np.asarray(other.act(obs, info)).tolist() for _ in range(4)
    ]
    assert getattr(other, "looks", None) == getattr(agent, "looks", None)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_environments_keep_their_settings(again):
    changed = {"max_turns": 5, "max_zooms": 2, "image_size": 48, "face_size": 32, "crop_size": 24,
               "reward": UCGRPOConfig(zoom_cost=0.25), "detector": "simulated"}  # fmt: skip
    made = gym.make("ActFER-Discrete-v0", dataset=FACES, disable_env_checker=True, **changed).unwrapped
    group = GroupVectorEnv("ActFER-Discrete-v0", 2, 2, dataset=FACES, **changed)
    for env in (made, group, RecordRollouts(made)):
        other = again(env)
        assert type(other) is type(env)
        space, other_space = (getattr(one, "single_observation_space", one.observation_space) for one in (env, other))
        assert other_space == space
        one, two = env.reset(seed=3)[0], other.reset(seed=3)[0]
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert again(made).config == made.config and again(group).config == group.config
    assert again(group).scorer.config == group.scorer.config == UCGRPOConfig(zoom_cost=0.25)


@WAYS
def test_a_scorer_keeps_constants_and_state(again):
    scorer = UCGRPO(UCGRPOConfig(zoom_cost=0.5))
    assert again(scorer).config == scorer.config and again(scorer).state_dict() == scorer.state_dict()


@WAYS
def test_errors_keep_their_words_and_attributes(again):
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.ActFERError):
            error = kind("what, and the cure")
            error.note = "kept"
            assert (type(again(error)), str(again(error)), again(error).note) == (kind, str(error), "kept")
    error = errors.AgentError("it stopped")
    error.run = {"kept": 1}
    assert again(error).run == {"kept": 1}


@lru_cache
def configurations():
    """Every dataclass of the package whose fields all have defaults."""
    found = {Usage}
    packages = (actfer_env, actfer_env.agents, actfer_env.wrappers)  # in a checkout they lie apart
    modules = [one for package in packages for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for module in modules:
        if not module.name.startswith(("actfer_env.verl_plugin", "actfer_env.__main__")):
            try:
                members = vars(importlib.import_module(module.name)).values()
            except (ImportError, errors.DataError):  # an extra is not installed
                continue
            found |= {one for one in members if isinstance(one, type) and dataclasses.is_dataclass(one)}
    missing = dataclasses.MISSING
    return sorted(
        (one for one in found if one.__module__.startswith("actfer_env") and one.__name__.endswith("Config")
         and all(field.default is not missing or field.default_factory is not missing
                 for field in dataclasses.fields(one))),
        key=lambda one: (one.__module__, one.__name__),
    )  # fmt: skip


@WAYS
def test_configurations_keep_every_field(again):
    kinds = configurations()
    assert {"TinyQwenConfig", "ZoomConfig", "EvalConfig", "ChatConfig", "UCGRPOConfig"} <= {
        one.__name__ for one in kinds
    }
    for kind in kinds:
        made = kind()
        for field in dataclasses.fields(kind):
            if type(getattr(made, field.name)) is int and field.init:
                try:
                    made = dataclasses.replace(made, **{field.name: getattr(made, field.name) + 1})
                except (errors.ActFERError, ValueError):
                    continue
        assert again(made) == made and type(again(made)) is kind
