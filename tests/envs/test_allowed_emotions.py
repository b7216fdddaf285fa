"""The emotions that an answer may name are part of an episode's settings, and are read in one place."""

from __future__ import annotations

from unittest.mock import patch

import gymnasium as gym
import pytest

import actfer_env  # noqa: F401
from actfer_env import facs
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, system_prompt
from actfer_env.data import load_dataset
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.errors import LabelError, SettingsError

FACE = load_dataset("synthetic", split="test", n=1)[0]
TOOLS = chat_tools()
SIX = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def test_spellings_and_order_are_those_of_the_taxonomy():
    assert EpisodeConfig().emotions == facs.EMOTIONS
    config = EpisodeConfig(emotions=("Happy", "angry", "happiness"))
    assert config.emotions == tuple(label for label in facs.EMOTIONS if label in ("happiness", "anger"))
    with pytest.raises(LabelError, match="unknown emotion 'glee'"):
        EpisodeConfig(emotions=("glee",))
    with pytest.raises(SettingsError, match="emotions is empty"):
        EpisodeConfig(emotions=())


def test_an_episode_refuses_other_emotions_and_names_those_it_takes():
    episode = Episode(FACE, TOOLS, EpisodeConfig(emotions=SIX))
    for label in ("contempt", "Contempt", "neutral", "glee", 5, None):
        result = Episode(FACE, TOOLS, EpisodeConfig(emotions=SIX)).answer(label)
        assert result.violation == "bad_arguments" and not result.done
        assert result.message.startswith(f"unknown emotion {label!r}: use one of ")
        assert all(one in result.message for one in SIX) and ", contempt" not in result.message
    assert episode.answer("Angry").legal and episode.predicted_emotion == "anger"


@pytest.mark.parametrize("text", ["<answer>contempt</answer>", "<answer>glee</answer>"])
def test_a_preset_without_contempt_takes_none(text):
    episode = ChatEpisode(FACE, TOOLS, ChatConfig(preset="tag"))
    assert "contempt" not in episode.episode.config.emotions and len(episode.episode.config.emotions) == 7
    step = episode.step(f"<think>a</think>{text}")
    assert step.violations == ("bad_arguments",)
    (call,) = episode.rollout().tool_calls
    said = text[8:-9]
    assert call.arguments["emotion"] == said
    assert call.result["error"].startswith(f"unknown emotion '{said}': use one of ")
    assert "contempt" not in call.result["error"].partition("use one of")[2]


def test_a_conversation_keeps_to_the_episodes_emotions():
    config = EpisodeConfig(emotions=SIX)
    episode = ChatEpisode(FACE, TOOLS, ChatConfig(), config)
    step = episode.step('<answer>{"emotion": "neutral", "aus": []}</answer>')
    assert step.violations == ("bad_arguments",) and not step.done
    said = step.messages[0]["content"][0]["text"]
    assert said.startswith("unknown emotion 'neutral': use one of ") and ", neutral" not in said
    whole, part = system_prompt(ChatConfig(), EpisodeConfig()), system_prompt(ChatConfig(), config)
    assert ", ".join(facs.EMOTIONS) in whole and ", ".join(config.emotions) in part


def test_an_answers_label_is_parsed_once():
    episode = ChatEpisode(FACE, TOOLS)
    with patch.object(facs, "parse_emotion", side_effect=facs.parse_emotion) as parse:
        episode.step('<answer>{"emotion": "Happy", "aus": ["AU6"]}</answer>')
    labels = [call.args[0] for call in parse.call_args_list]
    assert labels == ["Happy"] and episode.rollout().predicted_emotion == "happiness"


def test_turns_of_the_environment_leave_the_emotions():
    env = gym.make("ActFER-Chat-v0", dataset="portrait", config=EpisodeConfig(emotions=SIX), max_turns=2).unwrapped
    assert (env.config.emotions, env.config.max_turns) == (EpisodeConfig(emotions=SIX).emotions, 2)


def test_stored_runs_of_all_emotions_read_as_before():
    """What is stored of an episode has the three fields it always had, so that older work goes on."""
    assert list(EpisodeConfig().facts()) == ["max_turns", "max_zooms", "au_set"]
    some = EpisodeConfig(emotions=SIX)
    assert some.facts() == {**EpisodeConfig().facts(), "emotions": list(some.emotions)}
