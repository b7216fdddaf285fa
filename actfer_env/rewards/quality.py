"""The quality term: a mild, bounded penalty on broken texts (ActFER section 3.4, quality regularisation)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from actfer_env.rewards.config import UCGRPOConfig

_TAG = re.compile(r"<(/?)(think|tool_call|answer)>")
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_NGRAM = 4


@dataclass(frozen=True)
class TextQuality:
    """What the quality term measures in a rollout's texts.

    Attributes:
        format_errors: share of turns that are empty or whose tags do not balance, in [0, 1].
        repetition: share of word 4-grams that occurred before in the same turn, in [0, 1].
        foreign: share of letters outside the prompt's script, in [0, 1].
    """

    format_errors: float
    repetition: float
    foreign: float


def measure_quality(texts: Sequence[str], script: str = "LATIN") -> TextQuality:
    """Measure a rollout's texts in time linear in their length; any Unicode string is accepted.

    What stands inside a well-formed tool call is left out of repetition and language, as arguments repeat by
    nature. A turn must be given whole, with an opening tag that the chat template may have written.

    Args:
        texts: one text a turn.
        script: words of Unicode's character names that mark the prompt's letters, such as "LATIN".
    """
    scans = [_scan(text) for text in texts]
    prose = [text for _, text in scans]
    broken = sum(not balanced or not text.strip() for (balanced, _), text in zip(scans, texts, strict=True))
    return TextQuality(broken / max(1, len(texts)), repeated_share(prose), foreign_share(prose, script))


def quality_reward(texts: Sequence[str], config: UCGRPOConfig) -> float:
    """Return the quality term of a rollout's texts, in [quality_floor, 0]; 0 without text."""
    if not texts:
        return 0.0
    measured = measure_quality(texts, config.quality_script)
    penalty = config.quality_format * measured.format_errors
    penalty += config.quality_repetition * measured.repetition
    penalty += config.quality_language * measured.foreign
    return max(config.quality_floor, 0.0 - penalty)


def repeated_share(texts: Sequence[str]) -> float:
    """Return the share of word 4-grams, in [0, 1], that occurred before in the same text.

    Words are compared without case; a Chinese or Japanese character counts as a word.
    """
    total = distinct = 0
    for text in texts:
        words = _WORD.findall(text.casefold())
        grams = list(zip(*(words[start:] for start in range(_NGRAM)), strict=False))
        total += len(grams)
        distinct += len(set(grams))
    return (total - distinct) / total if total else 0.0


def foreign_share(texts: Sequence[str], script: str = "LATIN") -> float:
    """Return the share of letters, in [0, 1], whose Unicode name has no word of `script`."""
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
    """Return whether the tags balance, and the text without tags and (if they do) without tool calls."""
    stack: list[str] = []
    prose: list[str] = []
    start = 0
    for match in _TAG.finditer(text):
        if stack == ["think"] and match[2] != "think":
            continue  # reasoning may speak of tags; the first </think> ends it
        if "tool_call" not in stack:
            prose.append(text[start : match.start()])
        start = match.end()
        closing, name = match.groups()
        if not closing and name not in stack:
            stack.append(name)
        elif not closing or not stack or stack.pop() != name:
            return False, _TAG.sub(" ", text)
    return (False, _TAG.sub(" ", text)) if stack else (True, " ".join([*prose, text[start:]]))
