"""Refusals of servers, sorted by whose fault they are: by what was asked first, by the words only then.

Every server words its refusals in its own way (vLLM, SGLang, llama.cpp, Ollama, LM Studio, hosted APIs, gateways), and
changes the words. So the words only tell an outgrown model from other faults, widely where the server has answered the
conversation's earlier turns under the same settings: what has changed since is the conversation alone.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["key", "address", "busy", "filtered", "length", "other"]

_FILTER = re.compile(
    r"content.?(?:filter|polic|management|moderation)|moderation|was flagged|inspection_?failed|responsible.?ai|safety",
    re.IGNORECASE,
)
_LENGTH = re.compile(
    r"context(?!\W+(?:cancel|deadline))[\w\s-]{0,20}(?:length|size|window|limit|overflow|exceed|full|long)"
    r"|max_model_len|(?:n|num)_ctx|max_(?:completion_|new_|output_|total_|input_)?tokens|max_(?:input_|seq\w*_)?len"
    r"|(?:prompt|input|message|request|sequence|conversation|payload|entity|body)s?\b.{0,60}"
    r"\b(?:too (?:long|large|big|many)|exceed\w*|longer|larger|greater|beyond)\b"
    r"|too (?:long|large|many tokens)|tokens?\b.{0,60}\b(?:exceed\w*|limit|maximum|longer|larger|greater|more than)\b"
    r"|\b(?:exceed\w*|maximum|reduce|limit|longer|more than|up to|at most|fewer)\b.{0,60}\btokens?\b"
    r"|\btokens?\b.{0,60}\d{3,}\s*>=?\s*\d{3,}|\breduce the (?:length|size)|shorten"
    r"|above_max_length|input.?length|prompt.?length|sequence.?length|长度|上下文|最大.{0,12}token",
    re.IGNORECASE | re.DOTALL,
)
_OTHER = re.compile(
    r"at most \d+ (?:image|picture|multi)|\d+ images?\b.{0,40}(?:per|in one)|too many images|limit.?mm|rate.?limit"
    r"|quota|\broles?\b|alternat|tool_call|reasoning|template|invalid.?image|unsupported|context\W+(?:cancel|deadline)"
    r"|unexpected token|invalid token|expired|json",
    re.IGNORECASE,
)
_HINT = re.compile(
    r"length|context|tokens?\b|too (?:long|large|big|much|many)|exceed|overflow|window|capacity|longer|larger"
    r"|\d{3,}\s*>=?\s*\d{3,}|超",
    re.IGNORECASE,
)
_OUTPUT = re.compile(r"max_(?:completion_|new_|output_)?tokens|output|completion|generat", re.IGNORECASE)
_READ = 4000


def kind_of(status: int | None, text: str, first: bool) -> Kind:
    """Return what a refusal is about.

    Args:
        status: HTTP status, or None where the error stood inside an answer.
        text: All that the server said, codes included.
        first: Whether nothing but the prompt and the picture was sent.
    """
    text = text[:_READ]
    length = status == 413 or looks_long(text, first)
    if status in (401, 402, 404, 405):
        return "key" if status in (401, 402) else "address"
    if status is not None and status < 500 and status != 413 and _FILTER.search(text) and not length:
        return "filtered"
    if status == 403:
        return "key"
    if status in (408, 429) or (status is not None and status > 500 and (first or not length)):
        return "busy"
    return "length" if length else "other"


def looks_long(text: str, first: bool) -> bool:
    """Tell whether a refusal speaks of a conversation, or of a bound on tokens, beyond the model."""
    if _OTHER.search(text) and not _LENGTH.search(_OTHER.sub("", text)):
        return False
    return bool(_LENGTH.search(text)) or (not first and bool(_HINT.search(text)) and not _OTHER.search(text))


def cure_of(text: str, max_tokens: int) -> str:
    """Return what a user can do about a first question that does not fit the model."""
    if str(max_tokens) in text or _OUTPUT.search(text[:_READ]):
        return (
            f"; {max_tokens} tokens were asked for each turn: lower --max-new-tokens (max_tokens), "
            "or serve the model with a longer context"
        )
    return (
        "; the first question alone does not fit: serve the model with a longer context, lower --max-new-tokens "
        "(max_tokens), or show smaller pictures (image_side of ChatConfig)"
    )
