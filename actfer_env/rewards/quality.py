"""The quality term: a mild, bounded penalty on broken texts (ActFER section 3.4, quality regularisation).

Whether a turn's format is broken has one definition, the chat's parser (`actfer_env.chat.parse_turn`). Conversations
keep its findings in ``meta["chat"]``, and they are read from there. Rollouts without them, from other front ends, are
judged by their tags and by the JSON of their calls.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rollout import Rollout

_TAG = re.compile(r"<(/?)(think|tool_call|answer)>")
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_NGRAM = 4


@dataclass(frozen=True)
class TextQuality:
    """Measurements of a rollout's texts that the quality term needs.

    Attributes:
        format_errors: Share of turns that could not be read, or not without closing a tag, in [0, 1].
        repetition: Share of word 4-grams that occurred before in the same turn, in [0, 1].
        foreign: Share of letters outside the prompt's script, in [0, 1].
    """

    format_errors: float
    repetition: float
    foreign: float


def broken_turns(rollout: Rollout) -> frozenset[int] | None:
    """Return the turns that the chat's parser could not read, in whole or in part, or not without closing a tag.

    Returns:
        Indices into `Rollout.texts`; None where the rollout keeps no findings of the parser.
    """
    entries = rollout.meta.get("chat")
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        return None
    broken = (
        entry.get("turn") for entry in entries if "problem" in entry or "closed_tag" in (entry.get("mended") or ())
    )
    return frozenset(turn for turn in broken if isinstance(turn, int) and 0 <= turn < len(rollout.texts))


def measure_quality(texts: Sequence[str], script: str = "LATIN", broken: frozenset[int] | None = None) -> TextQuality:
    """Measure a rollout's texts in time linear in their length; any Unicode string is accepted.

    What stands inside a well-formed tool call is left out of repetition and language, as arguments repeat by
    nature. A turn must be given whole, with an opening tag that the chat template may have written.

    Args:
        texts: One text a turn.
        script: Words of Unicode's character names that mark the prompt's letters, such as "LATIN".
        broken: Indices of the turns with a format error, see `broken_turns`; None judges each turn by itself: it is
            broken if it holds nothing beyond a thought, if its tags do not balance, or if a call holds no JSON object.
            What stands inside ``<think>`` is no tag.
    """
    scans = [_scan(text) for text in texts]
    prose = [text for _, text in scans]
    if broken is None:
        broken = frozenset(i for i, (whole, _) in enumerate(scans) if not whole)
    return TextQuality(len(broken) / max(1, len(texts)), repeated_share(prose), foreign_share(prose, script))


def quality_reward(texts: Sequence[str], config: UCGRPOConfig, broken: frozenset[int] | None = None) -> float:
    """Return the quality term of a rollout's texts, in [quality_floor, 0]; 0 without text.

    Args:
        texts: Turns of a rollout, in order.
        config: Constants of the reward.
        broken: Numbers of the turns that are broken; None judges them by their texts.
    """
    if not texts:
        return 0.0
    measured = measure_quality(texts, config.quality_script, broken)
    penalty = config.quality_format * measured.format_errors
    penalty += config.quality_repetition * measured.repetition
    penalty += config.quality_language * measured.foreign
    return max(config.quality_floor, 0.0 - penalty)


def repeated_share(texts: Sequence[str]) -> float:
    """Return the share of word 4-grams, in [0, 1], that occurred before in the same text.

    Words are compared without case; a Chinese or Japanese character counts as a word.

    Args:
        texts: Turns of a rollout, in order.

    Returns:
        The share; 0 without a 4-gram.
    """
    total = distinct = 0
    for text in texts:
        words = _WORD.findall(text.casefold())
        grams = list(zip(*(words[start:] for start in range(_NGRAM)), strict=False))
        total += len(grams)
        distinct += len(set(grams))
    return (total - distinct) / total if total else 0.0


def foreign_share(texts: Sequence[str], script: str = "LATIN") -> float:
    """Return the share of letters, in [0, 1], whose Unicode name has no word of `script`.

    Args:
        texts: Turns of a rollout, in order.
        script: Word of the Unicode names, such as "LATIN".

    Returns:
        The share; 0 without letters.
    """
    total = foreign = 0
    for text in texts:
        letters = [letter for letter in text if letter.isalpha()]
        total += len(letters)
        foreign += sum(not _in_script(letter, script) for letter in letters)
    return foreign / total if total else 0.0


@lru_cache(maxsize=4096)
def _in_script(letter: str, script: str) -> bool:
    return not set(script.split()).isdisjoint(unicodedata.name(letter, "").split())


def _scan(text: str) -> tuple[bool, str]:
    """Return whether a turn holds the form of one, and its prose.

    Tags balance, what stands inside ``<think>`` being no tag, every call holds a JSON object, and there is more than a
    thought at the head. The prose is the text without tags and, if tags and calls are right, without tool calls.
    """
    thought, closed, rest = text.strip().partition("</think>")
    acts = bool(rest.strip()) if closed and thought.startswith("<think>") else bool(text.strip())
    stack: list[str] = []
    prose: list[str] = []
    start = 0
    for match in _TAG.finditer(text):
        closing, name = match.groups()
        if "think" in stack and not (closing and name == "think"):
            continue
        if "tool_call" not in stack:
            prose.append(text[start : match.start()])
        elif stack[-1] == "tool_call" and closing and not _is_object(text[start : match.start()]):
            return False, _TAG.sub(" ", text)
        start = match.end()
        if not closing and name not in stack:
            stack.append(name)
        elif not closing or not stack or stack.pop() != name:
            return False, _TAG.sub(" ", text)
    return (False, _TAG.sub(" ", text)) if stack else (acts, " ".join([*prose, text[start:]]))


def _is_object(body: str) -> bool:
    """Tell whether a call's body holds a JSON object, as the parser looks for one."""
    try:
        json.JSONDecoder().raw_decode(body[max(body.find("{"), 0) :])
    except (ValueError, RecursionError):
        return False
    return "{" in body
