"""Thoughts and repairs of a rollout's turns, as far as a reward can see them: in its texts and in the parser's notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from actfer_env.rollout import Rollout

SECTIONS: tuple[str, ...] = ("Global Analysis", "Local Analysis")
"""Headings of the answering turn's thought, of which it has one or both (ActFER 3.1)."""
_ACTION = re.compile(r"</?(?:tool_call|answer)>")


def thought_of(text: str) -> str:
    """Return the thought of a turn, without space around it; empty where there is none.

    It is what the chat's parser takes for one: up to the first ``</think>``, of a thought that is not closed up to the
    first call or answer.

    Args:
        text: The whole turn.
    """
    start, end = text.find("<think>"), text.find("</think>")
    if start < 0 and end < 0:
        return ""
    if start < 0 or 0 <= end < start:
        return text[:end].strip()
    if end < 0:
        action = _ACTION.search(text, start + 7)
        return text[start + 7 : action.start() if action else len(text)].strip()
    return text[start + 7 : end].strip()


def bare_turns(rollout: Rollout) -> int:
    """Return how many of a rollout's turns have no thought; 0 for a policy that does not write."""
    return sum(not thought_of(text) for text in rollout.texts)


def repairs(rollout: Rollout) -> int:
    """Return how many repairs the lenient parser made in a rollout's turns, from ``meta["chat"]``."""
    entries = rollout.meta.get("chat")
    if not isinstance(entries, list | tuple):
        return 0
    return sum(len(entry.get("mended") or ()) for entry in entries if isinstance(entry, Mapping))


def lacks_section(rollout: Rollout) -> bool:
    """Tell whether a rollout answered in words, and its last thought has none of the `SECTIONS`."""
    if not rollout.texts or rollout.predicted_emotion is None:
        return False
    thought = thought_of(rollout.texts[-1]).casefold()
    return not any(section.casefold() in thought for section in SECTIONS)


def thought_share(rollouts: Iterable[Rollout]) -> float:
    """Return the share of turns with a thought, in [0, 1]; NaN where no rollout has a text."""
    found = [bool(thought_of(text)) for rollout in rollouts for text in rollout.texts]
    return sum(found) / len(found) if found else float("nan")
