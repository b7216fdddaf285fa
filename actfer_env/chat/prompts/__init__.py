"""The prompts as data files, and their rendering."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env import facs
from actfer_env.chat.config import ChatConfig
from actfer_env.episode import EpisodeConfig
from actfer_env.plugins import changes
from actfer_env.sample import Sample
from actfer_env.tools.wire import Wire


QUESTION = 2_000
"""Characters of a sample's own question that are shown (chosen here)."""
_MARK = re.compile(r"<image>|<video>|<\|[^|<>]*\|>|<\|")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("actfer_env.chat", "prompts")
    return Environment(loader=loader, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


def system_prompt(chat: ChatConfig, episode: EpisodeConfig) -> str:
    """Return the system prompt: the task, the tools' use, FACS knowledge and the answer's format.

    Args:
        chat: Preset, coordinates and form of calls.
        episode: Budgets, tools and Action Units.
    """
    return _system_prompt(chat, episode, changes())


@lru_cache(maxsize=64)
def _system_prompt(chat: ChatConfig, episode: EpisodeConfig, registered: int) -> str:
    del registered
    spec, wire = chat.preset_spec, Wire(chat.coordinates, max_zooms=max(episode.max_zooms, 1))
    tools = episode.toolkit
    shown = next((tool for tool in tools.values() if tool.example), next(iter(tools.values())))
    name = "brief" if chat.brief and spec.tools else chat.preset
    return _environment().get_template(f"{name}.system.j2").render(
        guides=[tool.guide(wire) for tool in tools.values()], coordinates=wire.words(), max_turns=episode.max_turns,
        example=json.dumps({"name": shown.name, "arguments": dict(shown.example)}),
        definitions=[(au, facs.AU_NAMES[au], facs.AU_DEFINITIONS[au]) for au in facs.FACIAL_R1_AUS],
        max_zooms=episode.max_zooms, aus=[(au, facs.AU_NAMES[au]) for au in episode.au_set],
        prototypes=_prototypes(episode.au_set), emotions=answers(chat, episode.emotions), calls=chat.calls,
        schemas=tools.schemas(wire) if chat.schemas_in_prompt and spec.tools else [],
    ).strip()  # fmt: skip


def user_prompt(
    chat: ChatConfig, regions: dict[str, Any] | None = None, emotions: Iterable[str] = facs.EMOTIONS,
    question: str = "",
) -> str:  # fmt: skip
    """Return the question that comes with the picture.

    Args:
        chat: The preset.
        regions: Regions of a pre-aligned face: region -> box as it is written on the wire.
        emotions: Those that the episode allows.
        question: The sample's own question, see `own_question`, in the place of the preset's; the format stays.
    """
    template = _environment().get_template(f"{chat.preset}.user.j2")
    return template.render(
        regions=regions, emotions=answers(chat, emotions), canvas=chat.preset_spec.canvas, question=question
    ).strip()


def own_question(sample: Sample) -> str:
    """Return a sample's own question, from ``meta["question"]``, in one line; empty where it has none.

    Marks of pictures and special tokens, which some files of questions hold, are no words of it.
    """
    asked = sample.meta.get("question")
    return " ".join(_MARK.sub(" ", asked).split())[:QUESTION] if isinstance(asked, str) else ""


def answers(chat: ChatConfig, emotions: Iterable[str] = facs.EMOTIONS) -> tuple[str, ...]:
    """Return the emotions that an answer may name, of those that the episode allows."""
    return tuple(emotion for emotion in emotions if emotion not in chat.preset_spec.exclude)


def _prototypes(au_set: tuple[int, ...]) -> list[tuple[str, str]]:
    rows = []
    for emotion in facs.EMOTIONS:
        units = " + ".join(facs.format_au(au) for au in sorted(facs.prototype_aus(emotion, au_set)))
        one_sided = ", on one side of the face" if facs.PROTOTYPES[emotion].unilateral else ""
        rows.append((emotion, (units or "no Action Unit active") + one_sided))
    return rows
