"""Answers of a chat endpoint: turns, reasoning cut out of them, errors inside answers, and tokens spent."""

from __future__ import annotations

from typing import Any

_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
"""Fields in which servers put reasoning that they cut out; the first that holds words counts, others repeat it."""
_WORD_KEYS = ("text", "thinking", "reasoning", "summary", "content")


def read_reply(response: Any) -> dict[str, Any]:
    """Return the turn of a response as JSON values, or how it ends the conversation."""
    choice = response.choices[0]
    message = choice.message
    if getattr(message, "refusal", None):
        return {"stop": "refused", "why": message.refusal}
    if choice.finish_reason == "content_filter":
        return {"stop": "refused", "why": "content filter", "status": 200}
    found = getattr(message, "tool_calls", None) or []
    calls = [call if isinstance(call, dict) else call.model_dump(exclude_none=True) for call in found]
    answer = {"content": _text(message.content), "tool_calls": calls}
    reasoning = _reasoning(message)
    answer |= {"reasoning": reasoning} if reasoning else {}
    return answer | ({"cut": True} if choice.finish_reason == "length" else {})


def _text(content: Any) -> str:
    """Return the text of a message whose content may be a list of parts, or nothing that is known."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and not _is_thought(part)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _is_thought(part: dict[str, Any]) -> bool:
    return any(word in str(part.get("type", "")) for word in ("thinking", "reasoning"))


def _reasoning(message: Any) -> str:
    """Return the reasoning that a server has cut out of a turn, empty where there is none."""
    content = message.content if isinstance(message.content, list) else []
    places = [getattr(message, name, None) for name in _REASONING_FIELDS]
    places.append([part for part in content if isinstance(part, dict) and _is_thought(part)])
    return next((words for words in map(_words, places) if words.strip()), "")


def _words(value: Any, depth: int = 4) -> str:
    """Return the words of a reasoning field: a text, or parts that hold texts."""
    if isinstance(value, str) or depth == 0:
        return value if isinstance(value, str) else ""
    if isinstance(value, dict):
        return next(filter(None, (_words(value.get(key), depth - 1) for key in _WORD_KEYS)), "")
    if not isinstance(value, list):
        return ""
    return "\n".join(filter(None, (_words(part, depth - 1) for part in value)))


def said_by(error: Any) -> str:
    """Return all that a refusal says: message, code and type."""
    codes = [getattr(error, name, None) for name in ("code", "type", "param")]
    return " ".join(str(part) for part in (error.message, *codes) if part)


def inner_error(response: Any) -> tuple[int | None, str | None]:
    """Return status and words of an error that a server has put inside an answer; (None, None) where there is none."""
    choice = next(iter(getattr(response, "choices", None) or ()), None)
    error = getattr(response, "error", None) or getattr(choice, "error", None)
    if not error:
        return None, None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None, str(error)


def is_full(answer: dict[str, Any], response: Any, first: bool) -> bool:
    """Return whether an answer is empty because the conversation fills the model's context.

    Servers may answer so instead of refusing. An empty answer at the bound on a turn's tokens may also be hidden
    reasoning: tokens were written then.
    """
    if not answer.get("cut") or answer["content"].strip() or answer["tool_calls"] or answer.get("reasoning"):
        return False
    written = getattr(getattr(response, "usage", None), "completion_tokens", None)
    return written == 0 if first or isinstance(written, int) else True


def tokens_spent(response: Any) -> tuple[int, int]:
    """Return the tokens that an answer has cost, read and written; 0 where the server does not say."""
    usage = getattr(response, "usage", None)
    found = [getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens")]
    prompt, written = (value if isinstance(value, int) else 0 for value in found)
    return prompt, written
