"""The quality filter: a trajectory is kept where it plays without a fault and its thoughts read as thoughts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from actfer_env.chat import ChatConfig, ChatEpisode
from actfer_env.chat.messages import count_images
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.template import Case
from actfer_env.episode import EpisodeConfig, Zooming
from actfer_env.rewards.quality import foreign_share, repeated_share
from actfer_env.rewards.thoughts import thought_of
from actfer_env.sample import Sample
from actfer_env.tools.face_tools import FaceTools

SCRIPT = "LATIN"
_LEAK = re.compile(
    r"ground.?truth|\b(?:was|were|been|am|is|are) (?:told|given|provided|instructed)\b"
    r"|\bas (?:given|provided|instructed)\b|\bdescriptions? (?:says?|states?)\b"
    r"|\b(?:given|provided|true|correct|target) (?:label|emotion|answer|units?|AUs?|boxes)\b",
    re.IGNORECASE,
)
"""Words by which a thought tells that it knew the answer, which no policy does."""


def faults(
    turns: Sequence[str], case: Case, sample: Sample, tools: FaceTools, options: CurateOptions, zoom: Zooming = "free"
) -> Iterator[tuple[str, str]]:
    """Yield (reason, detail) of everything for which a trajectory is not kept.

    Args:
        turns: Texts that the policy writes.
        case: Facts that are known of the sample.
        sample: The sample.
        tools: Shared tools.
        options: Bounds.
        zoom: Prompt that the trajectory stands under.
    """
    chat, config = options.chat_config, replace(options.episode_config, zoom=zoom)
    yield from _played(turns, case, sample, tools, chat, config)
    yield from ((f"quality: {kind}", detail) for kind, detail in thought_faults([thought_of(text) for text in turns],
                                                                               options))  # fmt: skip


def thought_faults(thoughts: Sequence[str], options: CurateOptions) -> Iterator[tuple[str, str]]:
    """Yield (kind, detail) of everything for which thoughts do not read as thoughts.

    Args:
        thoughts: One for each turn, without tags.
        options: Bounds.
    """
    low, high = options.thought_characters
    if any(not thought for thought in thoughts):
        yield "no thought", f"turn {next(n for n, thought in enumerate(thoughts, 1) if not thought)} has none"
    elif any(not low <= len(thought) <= high for thought in thoughts):
        yield "length", f"thoughts of {', '.join(str(len(one)) for one in thoughts)} characters"
    if (repeated := repeated_share(thoughts)) > options.repetition:
        yield "repetition", f"{repeated:.0%} of 4-grams are repeated"
    if (foreign := foreign_share(thoughts, SCRIPT)) > options.foreign:
        yield "script", f"{foreign:.0%} of letters are not {SCRIPT}"
    if leak := next((found[0] for thought in thoughts if (found := _LEAK.search(thought))), None):
        yield "leak", f"a thought says {leak!r}"


def _played(
    turns: Sequence[str], case: Case, sample: Sample, tools: FaceTools, chat: ChatConfig, config: EpisodeConfig
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """Play the turns through a real episode, strictly parsed, and yield what goes wrong."""
    target = replace(sample, emotion=case.emotion, aus=case.units)
    episode = ChatEpisode(target, tools, replace(chat, parsing="strict"), config)
    for number, text in enumerate(turns, 1):
        if episode.done:
            yield "quality: not played", f"the episode ends before turn {number}"
            return
        step = episode.step(text)
        if step.violations or step.parsed.problem is not None:
            why = step.parsed.problem.message if step.parsed.problem else ", ".join(step.violations)
            yield "quality: not played", f"turn {number}: {why}"
            return
    if not episode.done:
        yield "quality: not played", "no answer"
        return
    rollout = episode.rollout()
    if rollout.predicted_emotion != case.emotion:
        yield "quality: emotion", f"answers {rollout.predicted_emotion}, not {case.emotion}"
    if chat.preset_spec.aus != "none" and rollout.predicted_aus != case.units & config.known_aus:
        yield "quality: units", f"answers {sorted(rollout.predicted_aus or ())}, not {sorted(case.units)}"
    if chat.preset_spec.tools and (rollout.detection == "failed") != (case.mode == "degraded"):
        yield "quality: mode", f"{case.mode}, and detection is {rollout.detection}"
    if count_images(episode.messages) != len(episode.images):
        yield "quality: not played", "placeholders and pictures differ"
