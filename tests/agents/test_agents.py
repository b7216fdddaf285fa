"""The agent protocol, the agents by name, and the check for those of others."""

from typing import get_args

import gymnasium as gym
import numpy as np
import pytest
from helpers import PortraitDetector, portrait_sample

from actfer_env import facs
from actfer_env.agents import (
    BLIND,
    MODES,
    Agent,
    Mode,
    RandomAgent,
    ScriptedAgent,
    make_agent,
    register_agent,
    registered_agents,
    truth,
)
from actfer_env.cli.play import DEMO_AGENTS
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.envs.registration import IDS
from actfer_env.errors import DataError
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.testing import check_agent

PORTRAIT = load_dataset("portrait")


class Noted(PortraitDetector):
    """Finds the portrait's face, and nobody in a small picture."""

    def detect(self, image):
        return super().detect(image) if image.shape[0] > 64 else []


@pytest.mark.parametrize("env_id", sorted(IDS))
@pytest.mark.parametrize("spec", ["random", "random:unmasked", "full:truth", "simplified", "degraded:fear", "blind"])
def test_every_agent_keeps_the_contract(env_id, spec):
    faces = Dataset("noted", [portrait_sample(), portrait_sample(id="nobody", source=np.zeros((64, 64, 3), np.uint8))])
    env = gym.make(env_id, dataset=faces, detector=Noted())  # a quick one: twelve batches are searched anew
    agent = make_agent(spec, env.action_space, dataset=faces)
    assert isinstance(agent, Agent)
    check_agent(agent, env, episodes=3)


class Broken(RandomAgent):
    def __init__(self, env, how):
        super().__init__(env.action_space, 0)
        self.how = how

    def act(self, obs, info):
        if self.how == "space":
            return np.int64(99)
        if self.how == "changes":
            obs["image"][:] = 0
        action = super().act(obs, info)
        return action[:1] if self.how == "batch" and np.ndim(action) else action


@pytest.mark.parametrize(("how", "message"), [("space", "not in"), ("changes", "changed the obs"), ("batch", "for 3")])
def test_check_agent_says_what_is_broken(how, message):
    env = gym.make("ActFER-Discrete-v0")
    with pytest.raises(AssertionError, match=message):
        check_agent(Broken(env, how), env)
    with pytest.raises(AssertionError, match="needs a method reset"):
        check_agent(object(), env)


def test_random_draws_follow_the_seed():
    env = gym.make("ActFER-MultiDiscrete-v0")
    obs, info = env.reset(seed=0)
    draws = [[RandomAgent(env.action_space, seed).act(obs, info).tolist() for _ in range(3)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_scripted_answers():
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=PORTRAIT)
    fixed = play(PORTRAIT, RolloutConfig(agents=("simplified:angry",), number=1)).rollouts[0]
    assert (fixed.predicted_emotion, fixed.predicted_aus) == ("anger", facs.prototype_aus("anger"))
    told = play(PORTRAIT, RolloutConfig(agents=("full:truth",), number=1)).rollouts[0]
    assert told.correct and told.predicted_aus == told.aus
    assert truth(PORTRAIT)("portrait-00") == ("happiness", {6, 12, 25})
    with pytest.raises(ValueError, match="unknown mode"):
        ScriptedAgent(env.action_space, "lazy")


def test_a_scripted_agent_keeps_a_turn_for_its_answer():
    run = play(PORTRAIT, RolloutConfig(agents=("full:happiness",), number=1, max_turns=3))
    assert run.rollouts[0].correct and run.rollouts[0].turns == 3 and len(run.rollouts[0].tool_calls) == 2


def test_agents_of_others_by_name():
    register_agent("mute", lambda argument, space, **_: RandomAgent(space, 0), replace=True)
    assert "mute" in registered_agents()
    with pytest.raises(DataError, match="registered already"):
        register_agent("mute", lambda argument, space, **_: RandomAgent(space, 0))
    with pytest.raises(DataError, match="unknown agent 'x'"):
        play(PORTRAIT, RolloutConfig(agents=("x",), number=1))
    with pytest.raises(DataError, match="random:odd"):
        play(PORTRAIT, RolloutConfig(agents=("random:odd",), number=1))


def test_groups_share_a_sample_and_mix_agents():
    config = RolloutConfig(agents=("full:truth", "simplified:fear"), group_size=4, number=2)
    run = play(PORTRAIT, config)
    assert [r.member for r in run.rollouts] == [0, 1, 2, 3] * 2
    assert [r.group_id for r in run.rollouts] == ["portrait-00"] * 4 + ["portrait-01"] * 4
    assert [r.zoomed for r in run.rollouts[:4]] == [True, False, True, False]
    # Zoomed: right with every AU, 1.0. Not zoomed: wrong, fear's AUs miss {6, 12, 25}: -0.2.
    assert run.score().delta == {"portrait-00": pytest.approx(1.2), "portrait-01": pytest.approx(1.2)}
    assert play(PORTRAIT, config).rollouts == run.rollouts


@pytest.mark.parametrize("change", [{"group_size": 0}, {"number": 0}, {"max_turns": 0}, {"agents": ()}])
def test_bad_settings_are_named(change):
    with pytest.raises(DataError):
        RolloutConfig(**change)


def test_the_degraded_mode_has_tried_to_detect_and_pays_nothing_for_it():
    nobody = Sample("nobody", np.full((64, 64, 3), 127, np.uint8), "fear", annotate=list)
    dataset = Dataset("two", [load_dataset("synthetic", split="test", preset="easy", n=1)[0], nobody])
    agents = ("degraded:neutral", "simplified:neutral", "blind:neutral")
    run = play(dataset, RolloutConfig(agents=agents, group_size=3))
    tried, simplified, blind = run.rollouts[::3], run.rollouts[1::3], run.rollouts[2::3]
    assert {one.detection for one in tried} == {"ok", "failed"}
    assert [one.tool_calls for one in tried] == [one.tool_calls for one in simplified]
    assert not any(one.zoomed for one in tried)
    structure = run.score().structure
    assert set(structure[::3]) == {0.05} and set(structure[2::3]) == {-0.1}
    assert {one.detection for one in blind} == {"not_called"} and not any(one.tool_calls for one in blind)


def test_the_demo_shows_an_agent_that_does_not_look():
    assert "blind:neutral" in DEMO_AGENTS and not any(spec.startswith("degraded") for spec in DEMO_AGENTS)
    assert set(get_args(Mode)) - set(MODES) == {BLIND}
    assert set(get_args(Mode)) < set(registered_agents())
