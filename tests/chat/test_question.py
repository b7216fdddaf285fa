"""A sample's own question belongs to the prompt; without one, prompts stay as they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import portrait_sample

from actfer_env.chat import CHAT_PRESETS, ChatConfig, ChatEpisode, chat_tools, user_prompt

USUAL = {
    "actfer": "Which Action Units are active, and which emotion does the face in this picture show?",
    "facial_r1": "Which emotion does this face show?",
    "tag": "Which emotion does this face show?",
    "ferbench": "Which emotion does the person in the picture show?",
}


def asked(preset: str, **meta: object) -> str:
    sample = portrait_sample(prealigned=True, meta=dict(meta))
    episode = ChatEpisode(replace(sample, prealigned=False), chat_tools("mtcnn"), ChatConfig(preset=preset))
    return episode.messages[1]["content"][1]["text"]


@pytest.mark.parametrize("preset", CHAT_PRESETS)
def test_the_question_takes_the_place_of_the_presets_and_the_format_stays(preset: str) -> None:
    usual, own = asked(preset), asked(preset, question="How does she feel?")
    assert usual == user_prompt(ChatConfig(preset=preset)) and usual.startswith(USUAL[preset])
    assert own == usual.replace(USUAL[preset], "How does she feel?")


def test_marks_of_pictures_and_special_tokens_are_no_words_of_a_question() -> None:
    assert asked("actfer", question=" <image>\nHow is  she?<|im_end|> <| ") == "How is she?"
    assert len(asked("actfer", question="why " * 5000)) <= 2000
    assert asked("actfer", question=7) == USUAL["actfer"]


def test_an_aligned_face_is_asked_about_with_its_regions() -> None:
    sample = portrait_sample(prealigned=True, meta={"question": "Which units?"})
    text = ChatEpisode(sample, chat_tools("mtcnn")).messages[1]["content"][1]["text"]
    assert text.startswith("This is an aligned face. Its regions: {") and text.endswith("}. Which units?")
